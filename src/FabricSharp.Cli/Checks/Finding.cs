namespace FabricSharp.Cli.Checks;

/// <summary>What one check came to.</summary>
/// <param name="Check">What was looked at.</param>
/// <param name="IsOk">Whether it will do.</param>
/// <param name="Found">What is there.</param>
/// <param name="Fix">What to do, where it will not do or could be better.</param>
internal sealed record Finding(string Check, bool IsOk, string Found, string? Fix = null);
