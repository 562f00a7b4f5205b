using FabricSharp.DataParallel;

namespace FabricSharp.Tests.DataParallel;

public class DDPOptionsTests
{
    [Fact]
    public void Default_Always_IsAsDocumentedAndValid()
    {
        var options = new DDPOptions();
        options.Validate();
        Assert.Equal((false, false, true, true), (options.FindUnusedParameters, options.StaticGraph, options.GradientAsBucketView, options.BroadcastBuffers));
        Assert.Equal((25.0, null), (options.BucketCapMb, options.FirstBucketMb));
        Assert.Equal((25 << 20, 1 << 20), (options.BucketBytes, options.FirstBucketBytes));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-1)]
    [InlineData(double.NaN)]
    [InlineData(double.PositiveInfinity)]
    [InlineData(double.NegativeInfinity)]
    public void Validate_SeveralProblems_ReportsAllAtOnce(double value)
    {
        var options = new DDPOptions { BucketCapMb = value, FirstBucketMb = value };
        var e = Assert.Throws<ArgumentException>(options.Validate);
        Assert.Contains($"BucketCapMb = {value} must be a positive number", e.Message);
        Assert.Contains($"FirstBucketMb = {value} must be a positive number", e.Message);
    }

    [Fact]
    public void Validate_OneProblem_ReportsThatOnly()
    {
        var e = Assert.Throws<ArgumentException>(new DDPOptions { FirstBucketMb = 0 }.Validate);
        Assert.DoesNotContain("BucketCapMb", e.Message);
    }

    [Fact]
    public void Validate_EveryKindOfProblem_ReportsAllAtOnce()
    {
        var options = new DDPOptions { BucketCapMb = 0, FirstBucketMb = -1, Timeout = TimeSpan.Zero, ParametersToIgnore = [" "] };
        var e = Assert.Throws<ArgumentException>(options.Validate);
        Assert.All(["BucketCapMb = 0", "FirstBucketMb = -1", "Timeout = 00:00:00", "ParametersToIgnore"], text => Assert.Contains(text, e.Message));
    }

    [Fact]
    public void FirstBucketBytes_CapBelowOneMiB_AreTheCap() =>
        Assert.Equal(314572, new DDPOptions { BucketCapMb = 0.3 }.FirstBucketBytes);

    [Fact]
    public void Validate_TinyBuckets_AreAllowed() => new DDPOptions { BucketCapMb = 1e-6, FirstBucketMb = 1e-6 }.Validate();
}
