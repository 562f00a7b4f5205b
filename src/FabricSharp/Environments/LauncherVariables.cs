using System.Globalization;

namespace FabricSharp.Environments;

/// <summary>The environment variables of one launcher, each checked as it is read.</summary>
/// <param name="variable">Reads an environment variable.</param>
/// <param name="remedy">What to do when one is missing or malformed, as a sentence.</param>
internal sealed class LauncherVariables(Func<string, string?> variable, string remedy)
{
    public const int LargestRank = 100_000;
    public const int LargestWorld = 1_000_000;

    /// <summary>The text of a variable; null where it is unset or empty.</summary>
    public string? Text(string name) => variable(name) is { Length: > 0 } text ? text : null;

    public string RequiredText(string name) => Text(name) ?? throw Missing(name);

    public int Rank(string name) => Number(name, 0, LargestRank) ?? throw Missing(name);

    public int Size(string name) => Number(name, 1, LargestWorld) ?? throw Missing(name);

    public int? Port(string name) => Number(name, 0, 65535);

    public int? Number(string name, int smallest, int largest)
    {
        if (Text(name) is not { } text)
            return null;
        if (int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number) && number >= smallest && number <= largest)
            return number;
        throw new ArgumentException($"The environment variable {name}={text} must be a whole number from {smallest} to {largest}. {remedy}");
    }

    public ArgumentException Missing(string name, string? otherRemedy = null) =>
        new($"The environment variable {name} is not set. {otherRemedy ?? remedy}");

    public ArgumentException Malformed(string name, string expected) =>
        new($"The environment variable {name}={Text(name)} must be {expected}. {remedy}");
}
