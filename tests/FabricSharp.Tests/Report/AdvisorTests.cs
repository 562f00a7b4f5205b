using FabricSharp.Cli.Report;

namespace FabricSharp.Tests.Report;

/// <summary>Each rule speaks when a constructed run shows it, with the numbers, and not below its threshold.</summary>
public sealed class AdvisorTests
{
    private const long Millisecond = ConstructedRun.Millisecond;

    [Fact]
    public void Nothing_StandsOut_NoAdvice() => Assert.Empty(Advisor.For(new ConstructedRun().Timeline()));

    [Theory]
    [InlineData(1_800_000, false)]
    [InlineData(3_000_000, true)]
    public void Exposed_FromTenPercentOn_IsReportedWithItsNumbers(long exposed, bool isReported)
    {
        var advice = Advisor.For(new ConstructedRun { ExposedNs = exposed }.Timeline());
        Assert.Equal(isReported, advice.Count > 0);
        if (!isReported)
            return;
        Assert.Equal("Communication is exposed", Assert.Single(advice).Title);
        Assert.Contains("3 ms of each step of 20 ms (15 %)", advice[0].Evidence);
        Assert.Contains("CommunicationHook.BFloat16()", advice[0].Remedy);
    }

    [Fact]
    public void Exposed_WithOneLargeBucket_AdvisesSmallerOnes() =>
        Assert.Contains("try bucketCapMb: 5.", Only(new ConstructedRun { ExposedNs = 4 * Millisecond, Pieces = [20 << 20] }).Remedy);

    [Fact]
    public void Exposed_WithManySmallBuckets_AdvisesLargerOnes() =>
        Assert.Contains("bucketCapMb: 200", Only(new ConstructedRun { ExposedNs = 4 * Millisecond, Pieces = [.. Enumerable.Repeat(1000L, 18)], Period = 25 * Millisecond }).Remedy);

    [Fact]
    public void Exposed_WithoutGradientHooks_SendsToTheDoctor() =>
        Assert.Contains("fabric doctor", Only(new ConstructedRun { ExposedNs = 4 * Millisecond, Hooks = false }).Remedy);

    [Fact]
    public void Exposed_WithAHook_NamesIt() =>
        Assert.Contains("'powersgd'", Only(new ConstructedRun { ExposedNs = 4 * Millisecond, Hook = "powersgd" }).Remedy);

    [Theory]
    [InlineData(6, 3_000_000, true)]
    [InlineData(4, 3_000_000, false)]
    [InlineData(10, 900_000, false)]
    public void LateRank_InEnoughStepsAndByEnough_IsNamed(int stepsOfTen, long late, bool isReported)
    {
        var advice = Advisor.For(new ConstructedRun { Late = (step, rank) => rank == 1 && step % 10 < stepsOfTen ? late : 0 }.Timeline());
        Assert.Equal(isReported, advice.Count > 0);
        if (!isReported)
            return;
        Assert.Equal("Rank 1 is late", Assert.Single(advice).Title);
        Assert.Contains("3 ms after the first (median), in 59 % of the steps", advice[0].Evidence);
    }

    [Fact]
    public void LateRank_WithinTheClocksUncertainty_IsNotNamed() =>
        Assert.Empty(Advisor.For(new ConstructedRun { Late = (_, rank) => rank == 1 ? 2 * Millisecond : 0, UncertaintyNs = Millisecond }.Timeline()));

    [Fact]
    public void NeverUsed_Parameter_IsNamed()
    {
        var advice = Only(new ConstructedRun { FindUnused = true, Uses = (_, _, parameter) => parameter != 1 });
        Assert.Equal("A parameter is never used", advice.Title);
        Assert.Contains("branch.weight in any of 120 steps", advice.Evidence);
        Assert.Contains("Freeze", advice.Remedy);
    }

    [Fact]
    public void NeverUsed_ParameterUsedOnceOnOneRank_IsNotNamed() =>
        Assert.Empty(Advisor.For(new ConstructedRun { FindUnused = true, Uses = (step, rank, parameter) => parameter != 1 || (step == 7 && rank == 1) }.Timeline()));

    [Theory]
    [InlineData(99, false)]
    [InlineData(100, true)]
    public void Flag_ThatFindsNothing_IsReportedFromAHundredStepsOn(int steps, bool isReported) =>
        Assert.Equal(isReported ? ["findUnusedParameters finds nothing"] : [], Advisor.For(new ConstructedRun { FindUnused = true, Steps = steps }.Timeline()).Select(advice => advice.Title));

    [Theory]
    [InlineData(500_000, false)]
    [InlineData(2_000_000, true)]
    public void Buffers_FromFivePercentOn_AreReported(long cost, bool isReported)
    {
        var advice = Advisor.For(new ConstructedRun { Buffers = 12, BuffersNs = cost }.Timeline());
        Assert.Equal(isReported, advice.Count > 0);
        if (isReported)
            Assert.Contains("12 buffers are broadcast before each forward pass, which takes 2 ms of each step of 20 ms (10 %)", Assert.Single(advice).Evidence);
    }

    [Theory]
    [InlineData(100_000, false)]
    [InlineData(300_000, true)]
    public void StaticGraph_WhenTheExchangeCostsAPercent_IsAdvised(long exchange, bool isReported)
    {
        var advice = Advisor.For(new ConstructedRun { ExchangeNs = exchange }.Timeline());
        Assert.Equal(isReported, advice.Count > 0);
        if (isReported)
            Assert.Contains("staticGraph: true would save this exchange of", Assert.Single(advice).Remedy);
    }

    [Fact]
    public void StaticGraph_WhenTheUseChangedOnOneRank_IsNotAdvised() =>
        Assert.Empty(Advisor.For(new ConstructedRun { FindUnused = true, ExchangeNs = 300_000, Uses = (step, rank, parameter) => parameter != 1 || rank == 0 || step != 50 }.Timeline()));

    [Fact]
    public void TimeBetween_MoreThanAThird_IsReported()
    {
        var advice = Only(new ConstructedRun { Period = 31 * Millisecond });
        Assert.Equal("Much time passes between steps", advice.Title);
        Assert.Contains("15.5 ms of each step of 31 ms (50 %)", advice.Evidence);
    }

    [Fact]
    public void FewSteps_SayNothing() =>
        Assert.Empty(Advisor.For(new ConstructedRun { Steps = Advisor.FewestSteps - 2, ExposedNs = 8 * Millisecond, Period = 60 * Millisecond }.Timeline()));

    [Fact]
    public void OneRank_HasNothingToHide() => Assert.Empty(Advisor.For(new ConstructedRun { Ranks = 1, ExposedNs = 4 * Millisecond, ExchangeNs = Millisecond }.Timeline()));

    private static Advice Only(ConstructedRun run) => Assert.Single(Advisor.For(run.Timeline()));
}
