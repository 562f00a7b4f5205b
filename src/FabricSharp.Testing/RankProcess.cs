namespace FabricSharp.Testing;

/// <summary>What one rank's process left behind.</summary>
/// <param name="Rank">The rank.</param>
/// <param name="ExitCode">The exit code of its program; null where it was ended by force, because another rank had failed.</param>
/// <param name="Output">What it wrote to its standard output.</param>
/// <param name="Error">What it wrote to its standard error.</param>
public sealed record RankProcess(int Rank, int? ExitCode, string Output, string Error)
{
    /// <summary>All of it, for the message of a failed test.</summary>
    public override string ToString() => $"--- rank {Rank}: {(ExitCode is { } code ? $"exit code {code}" : "ended by force")}\n{Output}{Error}";
}
