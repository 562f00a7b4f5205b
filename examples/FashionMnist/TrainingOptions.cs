namespace FabricSharp.Examples.FashionMnist;

/// <summary>What the command line asks for.</summary>
internal sealed record TrainingOptions(string Devices, string Strategy, int Epochs, int? MaxSteps, int BatchSize, string? Data, long Seed, bool Json)
{
    /// <summary>Reports every problem at once.</summary>
    /// <exception cref="ArgumentException">Some value is out of range.</exception>
    public void Validate()
    {
        var problems = new List<string>();
        if (Epochs < 1)
            problems.Add($"--epochs {Epochs} must be at least 1.");
        if (MaxSteps < 1)
            problems.Add($"--max-steps {MaxSteps} must be at least 1.");
        if (BatchSize < 1)
            problems.Add($"--batch-size {BatchSize} must be at least 1.");
        if (problems.Count > 0)
            throw new ArgumentException(string.Join(" ", problems));
    }
}
