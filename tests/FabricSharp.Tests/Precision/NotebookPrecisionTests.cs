using FabricSharp.Precision;
using TorchSharp;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Precision;

/// <summary>Precisions with two ranks that are threads.</summary>
public class NotebookPrecisionTests
{
    [Theory]
    [InlineData("32-true", ScalarType.Float32)]
    [InlineData("64-true", ScalarType.Float64)]
    [InlineData("bf16-true", ScalarType.BFloat16)]
    [InlineData("16-true", ScalarType.Float16)]
    [InlineData("bf16-mixed", ScalarType.Float32)]
    public void Train_TwoRanks_AveragesGradientsInThatType(string precision, ScalarType type) => Launch(precision, fabric =>
    {
        using var scope = NewDisposeScope();
        var net = nn.Linear(3, 2);
        var (model, optimizer) = fabric.Setup(net, optim.SGD(net.parameters(), 0.25));
        for (var step = 0; step < 3; step++)
        {
            optimizer.zero_grad();
            fabric.Backward(model.call(full([1, 3], 1.0 + 2 * fabric.GlobalRank, dtype: ScalarType.Float32)).sum());
            Assert.Equal(type, net.weight.grad!.dtype);
            Assert.True(net.weight.grad.eq(2).all().item<bool>());
            optimizer.step();
        }

        var weights = fabric.AllGather(net.weight.detach());
        Assert.True(weights[0].Equals(weights[1]));
        Assert.Equal((ScalarType.Float32, false), (get_default_dtype(), Autocast.IsEnabled()));
        return 0;
    });

    [Fact]
    public void Train_ScaledAndOneRankOverflows_SkipsOnBothAndEachRankHasItsScaler()
    {
        var scaler = new GradScaler(initScale: 1024);
        Launch(new MixedPrecision("16-mixed", DeviceType.CPU, scaler), fabric =>
        {
            using var scope = NewDisposeScope();
            var net = nn.Linear(3, 2);
            var (model, optimizer) = fabric.Setup(net, optim.SGD(net.parameters(), 0.25));
            var before = net.weight.clone();
            fabric.Backward(model.call(ones(1, 3)).sum());
            if (fabric.GlobalRank == 1)
                net.weight.grad![0, 0] = double.PositiveInfinity; // after averaging: only this rank has it
            optimizer.step();
            Assert.True(before.Equals(net.weight));
            Assert.NotSame(scaler, fabric.Precision.Scaler);
            Assert.Equal(512, fabric.Precision.Scaler!.CurrentScale);
            return 0;
        });
        Assert.Equal(1024, scaler.CurrentScale);
    }

    private static void Launch(PrecisionChoice precision, Func<Fabric, int> body)
    {
        using var fabric = new Fabric("cpu", "ddp_notebook", 2, 1, precision);
        fabric.Launch(body);
    }
}
