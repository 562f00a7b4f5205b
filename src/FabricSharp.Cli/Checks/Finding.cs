namespace FabricSharp.Cli.Checks;

/// <summary>What one check came to.</summary>
/// <param name="Check">What was looked at.</param>
/// <param name="IsOk">Whether it will do.</param>
/// <param name="Found">What is there.</param>
/// <param name="Fix">What to do, where it will not do or could be better.</param>
/// <param name="IsNeeded">Whether ranks cannot train without it. Otherwise it is for some uses only.</param>
internal sealed record Finding(string Check, bool IsOk, string Found, string? Fix = null, bool IsNeeded = true);
