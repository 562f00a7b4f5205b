using System.Buffers.Binary;
using System.Text.Json;

namespace FabricSharp.MultiProcess.Tests.Cli;

/// <summary><c>fabric report</c> as its user sees it, on real runs.</summary>
public sealed class ReportCommandTests : IDisposable
{
    private const string Data = "/usr/share/datasets/fashion-mnist";
    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(3);

    private readonly string _folder = Directory.CreateTempSubdirectory("fabric-report-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task Report_OfAnExampleOnTwoRanks_MakesPageAndTrace()
    {
        Assert.SkipUnless(Directory.Exists(Data), $"{Data} is missing: install Debian's package dataset-fashion-mnist.");
        using var example = new RunningProgram(Programs.FashionMnist, ["--max-steps", "30"], ("FABRIC_TRACE", _folder));
        var trained = await example.EndAsync(Limit);
        Assert.True(trained.ExitCode == 0, trained.ToString());
        File.WriteAllText(InFolder("metrics.csv"), "loss,step\n2.5,0\n1.5,1\n");
        var result = await RunAsync(_folder, "--output", InFolder("page.html"), "--trace", InFolder("perfetto.json"));
        Assert.True(result.ExitCode == 0, result.ToString());
        Assert.Contains("30 steps of 2 ranks", result.Output, StringComparison.Ordinal);
        var page = File.ReadAllText(InFolder("page.html"));
        foreach (var text in new[] { "BranchingNet", "rank 1", "branches.0.0", "30 in all", ">loss<", "on no rank" })
            Assert.Contains(text, page, StringComparison.Ordinal);
        var events = JsonDocument.Parse(File.ReadAllText(InFolder("perfetto.json"))).RootElement.GetProperty("traceEvents").EnumerateArray().ToList();
        Assert.Equal(60, events.Count(one => one.GetProperty("name").GetString() == "backward"));
    }

    [Fact]
    public async Task Report_OfARunThatFailed_ShowsTheStepsUntilThen()
    {
        var failed = await RunningProgram.RunWorkerAsync("throw who=1", Limit, ("FABRIC_TRACE", _folder));
        Assert.NotEqual(0, failed.ExitCode);
        var result = await RunAsync(_folder);
        Assert.True(result.ExitCode == 0, result.ToString());
        Assert.Contains("report.html: 5 steps of 2 ranks", result.Output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(1400, 2200)]
    [InlineData(400, 3600)]
    public async Task Page_InChromium_IsDrawn(int width, int height)
    {
        Assert.SkipUnless(File.Exists("/usr/bin/chromium"), "chromium is missing: install Debian's package chromium.");
        await RunningProgram.RunWorkerAsync("exit-early who=-1", Limit, ("FABRIC_TRACE", _folder));
        Assert.Equal(0, (await RunAsync(_folder)).ExitCode);
        using var browser = new RunningProgram(
            "/usr/bin/chromium",
            ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", $"--user-data-dir={InFolder("profile")}", $"--window-size={width},{height}", $"--screenshot={InFolder("page.png")}", "file://" + InFolder("report.html")]);
        await browser.EndAsync(Limit);
        var picture = File.ReadAllBytes(InFolder("page.png"));
        Assert.Equal((width, height), (BinaryPrimitives.ReadInt32BigEndian(picture.AsSpan(16)), BinaryPrimitives.ReadInt32BigEndian(picture.AsSpan(20))));
        Assert.True(picture.Length > 30_000, $"A picture of {picture.Length} bytes shows little.");
    }

    [Theory]
    [InlineData(2, "There is no folder", "nothing")]
    [InlineData(2, "There is no time line in", ".")]
    [InlineData(1, "is no trace of FabricSharp, or is damaged", "bad")]
    [InlineData(2, "has several runs", "several")]
    [InlineData(1, "metrics.csv of CsvLogger", "bad", "--metrics", "no.csv")]
    [InlineData(1, "Required argument 'DIR' missing")]
    public async Task WrongInput_SaysWhyAndEndsWithItsCode(int code, string reason, params string[] arguments)
    {
        foreach (var folder in new[] { "bad", "several/a", "several/b" })
            Directory.CreateDirectory(InFolder(folder));
        if (arguments is not ["."])
        {
            File.WriteAllText(InFolder("bad/rank-0.trace.json"), arguments.Length == 1 ? "{\u001b" : Sound());
            File.WriteAllText(InFolder("several/a/rank-0.trace.json"), "");
            File.WriteAllText(InFolder("several/b/rank-0.trace.json"), "");
        }

        File.WriteAllText(InFolder("no.csv"), "a,b\n");
        var result = await RunAsync([.. arguments.Select(argument => argument.StartsWith('-') ? argument : InFolder(argument))]);
        Assert.Equal(code, result.ExitCode);
        Assert.Contains(reason, result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain('\u001b', result.Error);
    }

    private static string Sound() => """
        {"format":"fabricsharp-trace","version":1,"run":"a","rank":0,"worldSize":1,"backend":"shm","started":"2026-01-01T00:00:00Z","clock":{"offsetNs":0,"uncertaintyNs":0},"models":[
        {"name":"Net","findUnusedParameters":false,"staticGraph":false,"gradientHooks":true,"broadcastBuffers":0,"communicationHook":null,"bucketCapBytes":1,"parameters":[]}]}
        """;

    private string InFolder(string name) => Path.Combine(_folder, name);

    private static async Task<ProgramResult> RunAsync(params string[] arguments)
    {
        using var program = new RunningProgram(Programs.Fabric, ["report", .. arguments]);
        return await program.EndAsync(Limit);
    }
}
