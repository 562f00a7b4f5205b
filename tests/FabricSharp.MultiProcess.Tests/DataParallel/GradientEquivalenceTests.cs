namespace FabricSharp.MultiProcess.Tests.DataParallel;

/// <summary>
/// Real ranks train under Fabric; a naive reference that sums the gradients of all ranks' losses must come to the same parameters, and all
/// ranks to the same bits.
/// </summary>
public sealed class GradientEquivalenceTests
{
    private const double Tolerance = 1e-6;

    [Theory]
    [InlineData("mlp", 2)]
    [InlineData("mlp", 3)]
    [InlineData("mlp", 4)]
    [InlineData("deep", 2)]
    [InlineData("used-twice", 2)]
    [InlineData("two-backwards-of-one-forward", 2)]
    [InlineData("two-forwards-two-backwards", 3)]
    [InlineData("two-forwards-one-backward", 2)]
    [InlineData("no-sync", 3)]
    [InlineData("frozen", 2)]
    [InlineData("lstm", 2)]
    [InlineData("embedding", 3)]
    [InlineData("attention", 2)]
    [InlineData("convolution", 2)]
    [InlineData("channels-last", 2)]
    [InlineData("mixed-types", 2)]
    [InlineData("scalar-and-empty", 2)]
    [InlineData("empty-share", 2)]
    public Task Train_EveryParameterUsed_EqualsTheReference(string training, int ranks) =>
        AssertEqualAsync($"train case={training} ranks={ranks} strategy=ddp", ranks);

    [Theory]
    [InlineData("mlp", 2)]
    [InlineData("unused-everywhere", 2)]
    [InlineData("unused-everywhere", 4)]
    [InlineData("unused-changes", 2)]
    [InlineData("unused-differs", 2)]
    [InlineData("unused-differs", 3)]
    [InlineData("unused-differs", 4)]
    [InlineData("unused-sometimes", 3)]
    [InlineData("nothing-used-on-one-rank", 2)]
    [InlineData("nothing-used-on-one-rank", 4)]
    [InlineData("no-backward-on-one-rank", 2)]
    [InlineData("no-sync-branch", 2)]
    [InlineData("two-backwards-of-one-forward", 3)]
    public Task Train_UnusedParametersAllowed_EqualsTheReference(string training, int ranks) =>
        AssertEqualAsync($"train case={training} ranks={ranks} strategy=ddp_find_unused_parameters_true", ranks);

    [Theory]
    [InlineData("views=false", "unused-differs")]
    [InlineData("views=false", "channels-last")]
    [InlineData("cap=0.0001", "unused-differs")]
    [InlineData("cap=0.0001", "deep")]
    public Task Train_OtherOptions_EqualsTheReference(string option, string training) =>
        AssertEqualAsync($"train case={training} ranks=2 flag=true {option}", 2);

    [Theory]
    [InlineData("mlp", 2, "on")]
    [InlineData("mlp", 3, "on")]
    [InlineData("mlp", 2, "off")]
    [InlineData("used-twice", 2, "on")]
    [InlineData("unused-differs", 3, "on")]
    [InlineData("unused-differs", 2, "off")]
    [InlineData("unused-sometimes", 2, "on")]
    [InlineData("nothing-used-on-one-rank", 2, "on")]
    [InlineData("no-backward-on-one-rank", 3, "on")]
    [InlineData("two-backwards-of-one-forward", 2, "on")]
    [InlineData("two-forwards-two-backwards", 2, "on")]
    [InlineData("no-sync", 2, "on")]
    [InlineData("no-sync-branch", 3, "on")]
    [InlineData("kept-gradients", 2, "on")]
    [InlineData("frozen", 2, "on")]
    [InlineData("positional", 2, "on")]
    [InlineData("positional", 3, "on")]
    [InlineData("positional", 2, "off")]
    [InlineData("two-views", 2, "on")]
    public async Task Train_LargeGradientsWithAndWithoutTheAllocator_EqualsTheReference(string training, int ranks, string allocator)
    {
        var reports = await AssertEqualAsync($"train case={training} ranks={ranks} width=160 flag=true", ranks, allocator: allocator);
        Assert.All(reports, report => Assert.Equal(allocator == "on", report.GetProperty("allocator").GetBoolean()));
    }

    [Theory]
    [InlineData("mlp")]
    [InlineData("unused-differs")]
    [InlineData("no-backward-on-one-rank")]
    [InlineData("two-backwards-of-one-forward")]
    [InlineData("no-sync-branch")]
    [InlineData("channels-last")]
    [InlineData("lstm")]
    public Task Train_WithoutGradientHooks_EqualsTheReference(string training) =>
        AssertEqualAsync($"train case={training} ranks=2 flag=true", 2, hooks: false);

    [Theory]
    [InlineData("mlp", 3)]
    [InlineData("unused-everywhere", 2)]
    [InlineData("unused-everywhere", 4)]
    [InlineData("no-sync", 2)]
    public async Task Train_StaticGraph_EqualsTheReferenceAndExchangesOnce(string training, int ranks)
    {
        var reports = await AssertEqualAsync($"train case={training} ranks={ranks} static=true", ranks);
        Assert.All(reports, report => Assert.Equal(1, report.GetProperty("exchanges").GetInt32()));
    }

    [Theory]
    [InlineData("mlp", 2, "")]
    [InlineData("unused-differs", 3, "flag=true")]
    [InlineData("unused-everywhere", 2, "static=true")]
    [InlineData("no-sync", 4, "")]
    [InlineData("mlp", 2, "hook=allreduce")]
    public Task Train_WithoutTheFacade_EqualsTheReference(string training, int ranks, string options) =>
        AssertEqualAsync($"train alone=true case={training} ranks={ranks} {options}".TrimEnd(), ranks);

    [Theory]
    [InlineData("mlp", 2)]
    [InlineData("unused-differs", 3)]
    [InlineData("no-sync-branch", 2)]
    public Task Train_ThroughACommunicationHook_EqualsTheReference(string training, int ranks) =>
        AssertEqualAsync($"train case={training} ranks={ranks} flag=true hook=allreduce", ranks);

    [Theory]
    [InlineData("fp16", 2, 2e-3)]
    [InlineData("bf16", 2, 2e-2)]
    [InlineData("powersgd", 2, 0.5)]
    [InlineData("powersgd", 4, 0.5)]
    public async Task Train_ThroughACompressingHook_StaysNearTheReferenceAndEqualOnAllRanks(string hook, int ranks, double tolerance)
    {
        var result = await RunningProgram.RunWorkerAsync($"train case=mlp width=32 ranks={ranks} flag=true hook={hook}");
        var reports = result.ReportsOf(ranks);
        Assert.All(reports, report => Assert.InRange(report.GetProperty("difference").GetDouble(), 1e-9, tolerance)); // compressed, but not lost
        Assert.Single(reports.Select(report => report.GetProperty("hash").GetString()).Distinct());
    }

    [Theory]
    [InlineData(2)]
    [InlineData(4)]
    public async Task Join_EveryRankHasAnotherNumberOfBatches_EndsWithEqualModels(int ranks)
    {
        var reports = (await RunningProgram.RunWorkerAsync($"uneven-inputs ranks={ranks}")).ReportsOf(ranks);
        Assert.Equal(Enumerable.Range(0, ranks).Select(rank => 3 + 4 * rank), reports.Select(report => report.GetProperty("trained").GetInt32()));
        Assert.Single(reports.Select(report => report.GetProperty("sum").GetDouble()).Distinct());
    }

    [Fact]
    public async Task Join_ThrowOnEarlyTermination_EndsEveryRank()
    {
        var result = await RunningProgram.RunWorkerAsync("uneven-inputs ranks=2 throw=true");
        Assert.NotEqual(0, result.ExitCode);
        Assert.Contains("exhausted", result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Train_UnusedParameters_AreReportedByName()
    {
        var reports = await AssertEqualAsync("train case=unused-everywhere ranks=2 flag=true steps=5", 2);
        string[] expected = ["branches.1.0.weight", "branches.1.0.bias", "branches.1.2.weight", "branches.1.2.bias", "branches.2.weight"];
        foreach (var report in reports)
        {
            Assert.Equal(expected, report.GetProperty("unused").EnumerateArray().Select(name => name.GetString()));
            Assert.Equal(5, report.GetProperty("passes").GetInt32());
        }
    }

    private static async Task<IReadOnlyList<System.Text.Json.JsonElement>> AssertEqualAsync(string arguments, int ranks, bool hooks = true, string allocator = "on")
    {
        var result = await RunningProgram.RunWorkerAsync(arguments, null, ("FABRIC_GRADIENT_HOOKS", hooks ? "on" : "off"), ("FABRIC_GRADIENT_ALLOCATOR", allocator));
        var reports = result.ReportsOf(ranks);
        foreach (var report in reports)
        {
            Assert.Equal(ranks, report.GetProperty("world").GetInt32());
            Assert.Equal(hooks, report.GetProperty("hooks").GetBoolean());
            Assert.True(report.GetProperty("difference").GetDouble() <= Tolerance, $"The parameters are not the reference's.\n{result}");
            Assert.True(report.GetProperty("nullGradientsAgree").GetBoolean(), $"Other gradients than the reference's, or a null where the reference has one.\n{result}");
            Assert.Equal(reports[0].GetProperty("hash").GetString(), report.GetProperty("hash").GetString());
        }

        return reports;
    }
}
