using System.Reflection;
using System.Text.RegularExpressions;

namespace FabricSharp.Tests.Conventions;

/// <summary>Keeps tests/BEHAVIOURS.md honest.</summary>
public sealed partial class BehaviourTableTests
{
    private const int Behaviours = 222;

    private static readonly string Tests = Path.Combine(
        typeof(BehaviourTableTests).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(attribute => attribute.Key == "RepositoryRoot").Value!, "tests");

    private static readonly List<(int Number, string Shown)> Rows =
        [.. Row().Matches(File.ReadAllText(Path.Combine(Tests, "BEHAVIOURS.md"))).Select(match => (int.Parse(match.Groups[1].Value, null), match.Groups[2].Value))];

    [Fact]
    public void Table_Numbers_AreCompleteAndInOrder() => Assert.Equal(Enumerable.Range(1, Behaviours), Rows.Select(row => row.Number));

    [Fact]
    public void Table_EveryTestNamed_Exists()
    {
        var sources = Directory.EnumerateFiles(Tests, "*.cs", SearchOption.AllDirectories)
            .Where(file => !file.Split(Path.DirectorySeparatorChar).Any(part => part is "bin" or "obj")).Select(File.ReadAllText).ToList();
        var methods = sources.SelectMany(source => TestClass().Matches(source).Select(match => match.Groups[1].Value).SelectMany(type => TestMethod().Matches(source).Select(match => $"{type}.{match.Groups[1].Value}"))).ToHashSet();
        Assert.DoesNotContain(Rows.SelectMany(row => TestName().Matches(row.Shown).Select(match => (row.Number, Name: match.Groups[1].Value))), named => !methods.Contains(named.Name));
    }

    [Fact]
    public void Table_EveryRow_HasATestOrSaysWhyNot() =>
        Assert.DoesNotContain(Rows, row => !TestName().IsMatch(row.Shown) && !row.Shown.StartsWith("Not applicable: ", StringComparison.Ordinal) && !row.Shown.StartsWith("open: ", StringComparison.Ordinal));

    [GeneratedRegex(@"^\| (\d+) \| [^|]+ \| ([^|]+) \|$", RegexOptions.Multiline)]
    private static partial Regex Row();

    [GeneratedRegex(@"`([A-Za-z0-9]+\.[A-Za-z0-9]+_[A-Za-z0-9_]+)`")]
    private static partial Regex TestName();

    [GeneratedRegex(@"class ([A-Za-z0-9]+(?:Tests|Conformance))\b")]
    private static partial Regex TestClass();

    [GeneratedRegex(@"public (?:void|Task|async Task) ([A-Za-z0-9_]+)\(")]
    private static partial Regex TestMethod();
}
