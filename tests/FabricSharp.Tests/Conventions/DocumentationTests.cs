using System.Reflection;
using System.Text.RegularExpressions;

namespace FabricSharp.Tests.Conventions;

/// <summary>What the documentation says that a program can check.</summary>
public partial class DocumentationTests
{
    private static readonly string Root =
        typeof(DocumentationTests).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(attribute => attribute.Key == "RepositoryRoot").Value!;

    public static TheoryData<string> Pages { get; } =
    [
        .. new[] { "README.md", "CONTRIBUTING.md" },
        .. new[] { "docs", "examples", "benchmarks" }.SelectMany(folder => Directory.GetFiles(Path.Combine(Root, folder), "*.md", SearchOption.AllDirectories))
            .Select(page => Path.GetRelativePath(Root, page)),
    ];

    [Theory]
    [MemberData(nameof(Pages))]
    public void Links_WithinTheRepository_LeadToFiles(string page)
    {
        var folder = Path.GetDirectoryName(Path.Combine(Root, page))!;
        var targets = Link().Matches(File.ReadAllText(Path.Combine(Root, page))).Select(match => match.Groups[1].Value).Where(target => !target.Contains("://", StringComparison.Ordinal));
        Assert.All(targets, target => Assert.True(Path.Exists(Path.Combine(folder, target)), $"{page}: there is no {target}."));
    }

    [Fact]
    public void Troubleshooting_EachTitle_IsThrownSomewhere()
    {
        var page = File.ReadAllText(Path.Combine(Root, "docs", "reference", "troubleshooting.md"));
        var titles = Title().Matches(page).Select(match => match.Groups[1].Value).ToList();
        var sources = string.Join('\n', Directory.GetFiles(Path.Combine(Root, "src", "FabricSharp"), "*.cs", SearchOption.AllDirectories).Select(File.ReadAllText));
        var texts = Continuation().Replace(sources, ""); // a literal on several lines
        Assert.True(titles.Count > 30);
        Assert.All(titles, title => Assert.True(texts.Contains(title, StringComparison.Ordinal), $"No message contains: {title}"));
    }

    /// <summary>What the page shows is compiled and run.</summary>
    [Fact]
    public void TestingPage_EachExample_IsAMethodOfTheTests()
    {
        var program = Unindented(File.ReadAllText(Path.Combine(Root, "tests", "FabricSharp.Tests", "Testing", "DocumentedExamples.cs")));
        var examples = Example().Matches(File.ReadAllText(Path.Combine(Root, "docs", "guides", "testing.md"))).Select(match => Unindented(match.Groups[1].Value)).ToList();
        Assert.Equal(3, examples.Count);
        Assert.All(examples, example => Assert.Contains(example, program));
    }

    private static string Unindented(string text) => string.Join('\n', text.Split('\n').Select(line => line.Trim()));

    [GeneratedRegex("```csharp\n(.*?)```", RegexOptions.Singleline)]
    private static partial Regex Example();

    [GeneratedRegex(@"\]\(([^)#\s]+)(?:#[^)]*)?\)")]
    private static partial Regex Link();

    [GeneratedRegex(@"^### (.+)$", RegexOptions.Multiline)]
    private static partial Regex Title();

    [GeneratedRegex("\"\\s*\\+\\s*\\$?\"")]
    private static partial Regex Continuation();
}
