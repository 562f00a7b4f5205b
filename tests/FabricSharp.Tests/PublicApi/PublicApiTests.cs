using PublicApiGenerator;

namespace FabricSharp.Tests.PublicApi;

public class PublicApiTests
{
    public static TheoryData<string, Type> Libraries { get; } = new() { { "FabricSharp", typeof(Fabric) }, { "FabricSharp.Testing", typeof(FabricSharp.Testing.RankThreads) } };

    /// <summary>A public member that was added, changed or removed shows here, so that nobody does it unawares.</summary>
    [Theory]
    [MemberData(nameof(Libraries))]
    public void PublicApi_OfTheLibrary_IsTheApprovedOne(string name, Type type)
    {
        string Approved = $"{name}.approved.txt", Received = $"{name}.received.txt";
        var api = type.Assembly.GeneratePublicApi(new ApiGeneratorOptions { IncludeAssemblyAttributes = false }).ReplaceLineEndings("\n").TrimEnd() + "\n";
        var approved = Path.Combine(AppContext.BaseDirectory, "PublicApi", Approved);
        var expected = File.Exists(approved) ? File.ReadAllText(approved).ReplaceLineEndings("\n") : "";
        if (api == expected)
            return;

        var received = Path.Combine(AppContext.BaseDirectory, "PublicApi", Received);
        Directory.CreateDirectory(Path.GetDirectoryName(received)!);
        File.WriteAllText(received, api);
        Assert.Fail(
            $"The public API differs from the approved one.\n{Difference(expected, api)}\n" +
            $"If that is meant, accept it:\n  cp '{received}' tests/FabricSharp.Tests/PublicApi/{Approved}");
    }

    private static string Difference(string expected, string actual)
    {
        var (before, after) = (expected.Split('\n'), actual.Split('\n'));
        var removed = before.Except(after).Select(line => $"- {line.Trim()}");
        var added = after.Except(before).Select(line => $"+ {line.Trim()}");
        return string.Join('\n', removed.Concat(added).Take(40).DefaultIfEmpty("(only the order of lines or repeated lines)"));
    }
}
