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
        Assert.Equal((25.0, 1.0), (options.BucketCapMb, options.FirstBucketMb));
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
    public void Validate_TinyBuckets_AreAllowed() => new DDPOptions { BucketCapMb = 1e-6, FirstBucketMb = 1e-6 }.Validate();
}
