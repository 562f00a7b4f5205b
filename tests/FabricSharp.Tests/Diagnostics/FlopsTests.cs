using FabricSharp.Diagnostics;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Diagnostics;

public class FlopsTests
{
    [Fact]
    public void Measure_Linears_CountsProductsOfShapes()
    {
        using var net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4));
        var count = Flops.Measure(net, () => net.call(rand(3, 5, 8)));
        const double first = 2 * 15 * 8 * 16, second = 2 * 15 * 16 * 4;
        Assert.Equal(first + second, count.Forward);
        Assert.Equal(first + 2 * second, count.Backward); // the data needs no gradient
        Assert.Equal(count.Forward + count.Backward, count.Total);
        Assert.Empty(count.Uncounted);
        Assert.Equal(0, Flops.Measure(net, () => net.call(rand(1, 8)), backward: false).Backward);
    }

    [Fact]
    public void Measure_FrozenWeight_CostsNoGradientOfIt()
    {
        using var net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4));
        foreach (var parameter in net.parameters().Take(2))
            parameter.requires_grad = false;
        const double each = 2 * 1 * 4 * 4;
        Assert.Equal(each, Flops.Measure(net, () => net.call(rand(1, 4))).Backward); // the second layer's weight only
    }

    [Fact]
    public void Measure_Convolutions_CountsEachOutputElement()
    {
        using var conv = nn.Conv2d(4, 6, 3, stride: 2, padding: 1, groups: 2);
        Assert.Equal(2.0 * 2 * 6 * 4 * 4 * (2 * 9), Flops.Measure(conv, () => conv.call(rand(2, 4, 8, 8))).Forward);
        using var transposed = nn.ConvTranspose1d(3, 5, 4, stride: 2);
        Assert.Equal(2.0 * 2 * 3 * 7 * (5 * 4), Flops.Measure(transposed, () => transposed.call(rand(2, 3, 7))).Forward);
    }

    [Fact]
    public void Measure_Recurrent_CountsEveryStepAndLayer()
    {
        using var lstm = nn.LSTM(3, 5, numLayers: 2, bidirectional: true);
        var count = Flops.Measure(lstm, () => lstm.call(rand(7, 2, 3)));
        Assert.Equal(2.0 * 14 * 2 * (4 * 5 * 3 + 4 * 5 * 5 + 4 * 5 * 10 + 4 * 5 * 5), count.Forward);
        using var gru = nn.GRU(3, 5);
        Assert.Equal(2.0 * 14 * (3 * 5 * 3 + 3 * 5 * 5), Flops.Measure(gru, () => gru.call(rand(7, 2, 3))).Forward);
    }

    [Fact]
    public void Measure_Attention_CountsProjectionsAndProducts()
    {
        using var attention = nn.MultiheadAttention(8, 2);
        var count = Flops.Measure(attention, () =>
        {
            using var query = rand(5, 3, 8);
            using var memory = rand(9, 3, 8);
            attention.call(query, memory, memory);
        });
        const double projections = 2.0 * 8 * 8 * (15 + 27 + 27), output = 2.0 * 8 * 8 * 15, products = 2 * 2.0 * 3 * 5 * 9 * 8;
        Assert.Equal(projections + output + products, count.Forward);
        Assert.Equal(projections + 2 * output + 2 * products, count.Backward);
    }

    [Fact]
    public void Measure_OwnProducts_AreCountedWhereReportedAndNamedWhereNot()
    {
        using var silent = new OwnProduct(report: false);
        var count = Flops.Measure(silent, () => silent.call(rand(2, 3)));
        Assert.Equal(["the model itself (OwnProduct)"], count.Uncounted);
        Assert.Equal(0, count.Total);
        using var reporting = new OwnProduct(report: true);
        Assert.Equal(3 * 2.0 * 2 * 3 * 4, Flops.Measure(reporting, () => reporting.call(rand(2, 3))).Total);
        Flops.Record(1e9); // outside of a measurement
        Assert.Equal(3 * 2.0 * 2 * 3 * 4, Flops.Measure(reporting, () => reporting.call(rand(2, 3))).Total);
    }

    [Fact]
    public void Measure_ModelThatWasSetUp_CountsTheSameAndLeavesNothing()
    {
        using var net = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 4));
        var plain = Flops.Measure(net, () => net.call(rand(3, 8)));
        using var fabric = new Fabric(accelerator: "cpu");
        var model = fabric.Setup(net);
        var before = LiveTensors.Settled();
        for (var i = 0; i < 3; i++)
            Assert.Equal(plain.Total, Flops.Measure(model, () => model.call(rand(3, 8))).Total);
        Assert.Equal(before, Tensor.TotalCount);
        Assert.All(net.parameters(), parameter => Assert.Null(parameter.grad));
    }

    private sealed class OwnProduct : nn.Module<Tensor, Tensor>
    {
        private readonly bool _report;
        private readonly Parameter weight = new(rand(3, 4));

        public OwnProduct(bool report)
            : base(nameof(OwnProduct))
        {
            _report = report;
            RegisterComponents();
        }

        public override Tensor forward(Tensor input)
        {
            if (_report)
                Flops.Record(2.0 * input.shape[0] * 3 * 4);
            return input.matmul(weight);
        }
    }
}
