using static TorchSharp.torch;

namespace FabricSharp.Tests.Loggers;

public class FabricLoggingTests
{
    [Fact]
    public void Logger_OfSeveral_IsTheFirst()
    {
        var (first, second) = (new RecordingLogger("1"), new RecordingLogger("2"));
        using var fabric = Make(first, second);
        Assert.Same(first, fabric.Logger);
        Assert.Equal([first, second], fabric.Loggers);
        using var none = Make();
        Assert.Null(none.Logger);
        none.Log("a", 1);
    }

    [Fact]
    public void Log_NumbersAndOneElementTensors_ReachEveryLogger()
    {
        var loggers = new[] { new RecordingLogger(), new RecordingLogger() };
        using (var fabric = Make(loggers))
        {
            fabric.Log("a", 1, step: 7);
            fabric.Log("b", 2.5f);
            fabric.Log("c", true, 1);
            using var weight = ones(1, 1, requires_grad: true);
            fabric.LogDict(new() { ["half"] = tensor(0.5f).to(ScalarType.Float16), ["long"] = tensor(3L), ["grad"] = weight * 4, ["bool"] = tensor(true) }, 2);
            fabric.LogDict(new Dictionary<string, double> { ["d"] = 0.1 }, 3);
            fabric.LogDict(new Dictionary<string, Tensor> { ["t"] = tensor(6f) }, 4);
        }

        string[] expected = ["7: a=1", ": b=2.5", "1: c=1", "2: half=0.5 long=3 grad=4 bool=1", "3: d=0.1", "4: t=6", "save"];
        Assert.All(loggers, logger => Assert.Equal(expected, logger.Calls));
    }

    [Fact]
    public void Log_Dictionary_BecomesAGroup()
    {
        var logger = new RecordingLogger();
        using (var fabric = Make(logger))
            fabric.LogDict(new() { ["x"] = 1, ["loss"] = new Dictionary<string, Tensor> { ["train"] = tensor(2.0), ["val"] = tensor(3.0) } }, 9);
        Assert.Equal(["9: x=1", "9: loss/train=2 loss/val=3", "save"], logger.Calls);
    }

    [Fact]
    public void Log_LargerTensor_IsAnErrorThatNamesTheMetric()
    {
        var logger = new RecordingLogger();
        using var fabric = Make(logger);
        var message = Assert.Throws<ArgumentException>(() => fabric.Log("scores", ones(2, 3))).Message;
        Assert.Contains("The metric `scores` is a tensor of shape [2, 3]: it does not contain a single element, thus it cannot be converted to a scalar.", message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => fabric.Log("empty", zeros(0)));
        Assert.Empty(logger.Calls);
    }

    [Theory]
    [InlineData("text")]
    [InlineData('c')]
    [InlineData(null)]
    [InlineData(DayOfWeek.Friday)]
    public void Log_NoNumber_IsAnErrorThatNamesTheMetricAndNothingIsLogged(object? value)
    {
        var logger = new RecordingLogger();
        using var fabric = Make(logger);
        var message = Assert.Throws<ArgumentException>(() => fabric.LogDict(new() { ["good"] = 1, ["bad"] = value })).Message;
        Assert.Contains("`bad`", message, StringComparison.Ordinal);
        Assert.Contains("`bad", Assert.Throws<ArgumentException>(() => fabric.Log("group", new Dictionary<string, object?> { ["bad"] = value })).Message, StringComparison.Ordinal);
        Assert.Empty(logger.Calls);
    }

    [Fact]
    public void Log_ManyTensors_LeavesNoneBehind()
    {
        using var fabric = Make(new RecordingLogger());
        using var loss = ones(1, requires_grad: true);
        fabric.Log("loss", loss);
        var before = LiveTensors.Settled();
        for (var i = 0; i < 10; i++)
            fabric.Log("loss", loss);
        Assert.Equal(before, Tensor.TotalCount);
    }

    private static Fabric Make(params RecordingLogger[] loggers) => new(accelerator: "cpu", loggers: loggers);
}
