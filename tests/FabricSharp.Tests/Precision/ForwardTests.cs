using FabricSharp.Precision;
using FabricSharp.Tests.Wrappers;
using TorchSharp;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Precision;

/// <summary>What forward passes see and give back, on one device.</summary>
public sealed class ForwardTests : IDisposable
{
    private readonly DisposeScope _scope = NewDisposeScope();

    public void Dispose() => _scope.Dispose();

    [Theory]
    [InlineData("32-true", ScalarType.Float32, ScalarType.Float32, ScalarType.Float32, ScalarType.Float32)]
    [InlineData("64-true", ScalarType.Float64, ScalarType.Float64, ScalarType.Float64, ScalarType.Float64)]
    [InlineData("bf16-true", ScalarType.BFloat16, ScalarType.BFloat16, ScalarType.BFloat16, ScalarType.BFloat16)]
    [InlineData("16-true", ScalarType.Float16, ScalarType.Float16, ScalarType.Float16, ScalarType.Float16)]
    [InlineData("bf16-mixed", ScalarType.Float32, ScalarType.Float32, ScalarType.BFloat16, ScalarType.Float32)]
    [InlineData("16-mixed", ScalarType.Float32, ScalarType.Float32, ScalarType.BFloat16, ScalarType.Float32)]
    public void Train_EachPrecision_HasItsTypesInsideAndFloat32Outside(string precision, ScalarType weights, ScalarType inputs, ScalarType products, ScalarType defaults)
    {
        using var fabric = Make(precision);
        var net = new Probe();
        var weight = net.Linear.weight;
        var (model, optimizer) = fabric.Setup(net, optim.SGD(net.parameters(), 0.5));
        var output = model.call(ones(1, 3));
        Assert.Equal(ScalarType.Float32, output.dtype);
        Assert.Equal((inputs, products, defaults, defaults), (net.InputType, net.ProductType, net.DefaultType, net.NewTensorType));
        Assert.Equal(ScalarType.Float32, get_default_dtype());
        Assert.Same(weight, net.Linear.weight);
        Assert.Equal((weights, weights), (net.Linear.weight.dtype, net.Linear.bias!.dtype));
        var before = net.Linear.weight.clone();
        fabric.Backward(output.sum());
        Assert.Equal(weights, net.Linear.weight.grad!.dtype);
        Assert.True(net.Linear.weight.grad.eq(1).all().item<bool>());
        optimizer.step();
        Assert.True((before - 0.5).Equals(net.Linear.weight));
    }

    [Theory]
    [InlineData("64-true")]
    [InlineData("bf16-true")]
    [InlineData("bf16-mixed")]
    public void Forward_Throws_RestoresDefaultTypeAndAutocast(string precision)
    {
        using var fabric = Make(precision);
        var net = new Probe { Throws = true };
        var model = fabric.Setup(net);
        Assert.Throws<NotFiniteNumberException>(() => { model.call(ones(1, 3)); });
        Assert.Throws<NotFiniteNumberException>(() => { model.Invoke((Probe m) => m.call(ones(1, 3))); });
        Assert.Equal((ScalarType.Float32, false), (get_default_dtype(), Autocast.IsEnabled()));
    }

    [Fact]
    public void Forward_DefaultTypeWasDouble_GivesDoubleOutputs()
    {
        using var fabric = Make("bf16-true");
        var model = fabric.Setup(new Probe());
        using (new DefaultTypeScope(ScalarType.Float64))
            Assert.Equal(ScalarType.Float64, model.call(ones(1, 3)).dtype);
        Assert.Equal(ScalarType.Float32, model.call(ones(1, 3)).dtype);
    }

    [Fact]
    public void Forward_IntegerInput_IsUntouched()
    {
        using var fabric = Make("bf16-true");
        var model = fabric.Setup(nn.Embedding(4, 2));
        Assert.Equal(ScalarType.Float32, model.call(tensor(new long[] { 1, 3 })).dtype);
        Assert.Equal(ScalarType.BFloat16, model.parameters().Single().dtype);
    }

    [Fact]
    public void Forward_NestedInputAndOutput_ConvertsEveryFloatTensor()
    {
        using var fabric = Make("64-true");
        var net = new Nested();
        var model = fabric.Setup(net);
        var first = ones(2);
        var output = model.call(new() { ["x"] = [first, tensor(new[] { 1L })] }, (first, 3));
        Assert.Equal([ScalarType.Float64, ScalarType.Int64, ScalarType.Float64], net.Seen);
        Assert.Equal((ScalarType.Float32, ScalarType.Int64, "text"), (output.A.dtype, output.B.dtype, output.C));
        Assert.Equal(ScalarType.Float32, first.dtype);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(5)]
    [InlineData(6)]
    public void Forward_EveryArity_ConvertsInputsAndOutputs(int arity)
    {
        using var fabric = Make("bf16-true");
        var x = full([1, 3], 0.1);
        var output = arity switch
        {
            1 => fabric.Setup(new Sum1()).call(x),
            2 => fabric.Setup(new Sum2()).call(x, x),
            3 => fabric.Setup(new Sum3()).call(x, x, x),
            4 => fabric.Setup(new Sum4()).call(x, x, x, x),
            5 => fabric.Setup(new Sum5()).call(x, x, x, x, x),
            _ => fabric.Setup(new Sum6()).call(x, x, x, x, x, x),
        };
        Assert.Equal(ScalarType.Float32, output.dtype);
        Assert.True(output.Equals(output.to(ScalarType.BFloat16).to(ScalarType.Float32))); // nothing that bfloat16 could not hold
    }

    [Theory]
    [InlineData("bf16-mixed")]
    [InlineData("bf16-true")]
    public void Invoke_AnyMethod_RunsInThePrecision(string precision)
    {
        using var fabric = Make(precision);
        var model = fabric.Setup(new Probe());
        var x = fabric.Precision.ConvertInput(ones(1, 3));
        var output = model.Invoke((Probe m) =>
        {
            var product = m.Linear.call(x);
            Assert.Equal(ScalarType.BFloat16, product.dtype);
            return product;
        });
        Assert.Equal(ScalarType.Float32, output.dtype);
    }

    [Fact]
    public void Invoke_ReturnsAParameter_LeavesItAlive()
    {
        using var fabric = Make("bf16-true");
        var net = new Probe();
        var model = fabric.Setup(net);
        Assert.Equal(ScalarType.Float32, model.Invoke((Probe m) => (Tensor)m.Linear.weight).dtype);
        Assert.Equal(ScalarType.BFloat16, net.Linear.weight.dtype);
    }

    [Theory]
    [InlineData("32-true")]
    [InlineData("bf16-mixed")]
    [InlineData("bf16-true")]
    public void Forward_ModuleReturnsItsInput_GivesATensorThatIsAlive(string precision)
    {
        using var fabric = Make(precision);
        using var x = ones(2);
        var model = fabric.Setup(new Same());
        Assert.Equal([1f, 1f], model.call(x).data<float>().ToArray());
        Assert.Equal([1f, 1f], model.call(ones(2, ScalarType.Float64)).to(ScalarType.Float32).data<float>().ToArray());
        Assert.Equal([1f, 1f], x.data<float>().ToArray());
    }

    /// <summary>No scope and no finaliser: what the caller sees is all that is left.</summary>
    [Theory]
    [InlineData("bf16-mixed")]
    [InlineData("bf16-true")]
    [InlineData("64-true")]
    public void Forward_CallerDisposesWhatItSees_LeavesNoTensor(string precision)
    {
        using var fabric = Make(precision);
        var model = fabric.Setup(nn.Linear(3, 2));
        using var x = ones(1, 3);
        model.call(x).Dispose();
        using var outside = NewDisposeScope();
        var before = LiveTensors.Settled();
        for (var i = 0; i < 5; i++)
            model.call(x).Dispose();
        Assert.Equal(before, Tensor.TotalCount);
    }

    [Fact]
    public void Autocast_OutsideForward_IsAsInside()
    {
        using var mixed = Make("bf16-mixed");
        using (mixed.Autocast())
            Assert.Equal(ScalarType.BFloat16, mm(ones(2, 2), ones(2, 2)).dtype);
        using var full = Make("32-true");
        using (full.Autocast())
            Assert.Equal(ScalarType.Float32, mm(ones(2, 2), ones(2, 2)).dtype);
        using var wide = Make("64-true");
        using (wide.Autocast())
            Assert.Equal(ScalarType.Float64, zeros(1).dtype);
        Assert.Equal(ScalarType.Float32, zeros(1).dtype);
    }

    [Theory]
    [InlineData("32-true", ScalarType.Float32)]
    [InlineData("64-true", ScalarType.Float64)]
    [InlineData("bf16-true", ScalarType.BFloat16)]
    [InlineData("bf16-mixed", ScalarType.Float32)]
    public void InitModule_AndInitTensor_MakeThePrecisionsTypeAndEndAlsoWhenThrownThrough(string precision, ScalarType type)
    {
        using var fabric = Make(precision);
        using (fabric.InitModule(emptyInit: false))
            Assert.Equal(type, nn.Linear(3, 2).weight.dtype);
        Assert.Equal(ScalarType.Float32, zeros(1).dtype);
        Assert.Equal(type.ToString(), Assert.Throws<NotFiniteNumberException>(() => ThrowInside(fabric)).Message);
        Assert.Equal(ScalarType.Float32, zeros(1).dtype);
    }

    [Fact]
    public void InitTensor_DefaultDeviceWasAnother_MakesTensorsOnFabricsAndBringsItBack()
    {
        using var fabric = Make("32-true");
        set_default_device(META);
        try
        {
            using (fabric.InitTensor())
                Assert.Equal(DeviceType.CPU, zeros(1).device_type);
            Assert.Equal(DeviceType.META, zeros(1).device_type);
        }
        finally
        {
            set_default_device(CPU);
        }
    }

    [Fact]
    public void Setup_OwnPlugin_IsUsed()
    {
        using var fabric = new Fabric("cpu", "auto", 1, 1, new WideInputs());
        var net = new Probe();
        net.Linear.to(ScalarType.Float64);
        var model = fabric.Setup(net);
        Assert.Equal(ScalarType.Float32, model.call(ones(1, 3)).dtype);
        Assert.Equal((ScalarType.Float64, ScalarType.Float32), (net.InputType, net.DefaultType));
    }

    [Fact]
    public void Setup_AdamMadeBefore_FollowsTheParametersType()
    {
        using var fabric = Make("bf16-true");
        var net = nn.Linear(3, 2);
        var adam = optim.Adam(net.parameters(), 0.125);
        var (model, optimizer) = fabric.Setup(net, adam);
        var before = net.weight.clone();
        fabric.Backward(model.call(ones(1, 3)).sum());
        optimizer.step();
        var state = (TorchSharp.Modules.Adam.State)((TorchSharp.Modules.OptimizerHelper)adam).state_dict().State[0];
        Assert.Equal((ScalarType.BFloat16, 1), (state.exp_avg.dtype, state.step));
        Assert.True((before - 0.125).allclose(net.weight, rtol: 0.02, atol: 0.01));
    }

    [Fact]
    public void Setup_TiedWeightsAndNativeModules_StayTiedAndWork()
    {
        using var fabric = Make("64-true");
        var (first, second) = (nn.Linear(3, 3), nn.Linear(3, 3));
        second.weight = first.weight;
        var model = fabric.Setup(nn.Sequential(("first", first), ("second", second)));
        Assert.Equal(ScalarType.Float32, model.call(ones(1, 3)).dtype);
        Assert.Equal(first.weight.Handle, second.weight.Handle);
        var lstm = fabric.Setup(nn.LSTM(3, 2));
        var (output, hidden, _) = lstm.call(ones(4, 1, 3), null);
        Assert.Equal((ScalarType.Float32, ScalarType.Float32), (output.dtype, hidden.dtype));
    }

    private static void ThrowInside(Fabric fabric)
    {
        using (fabric.InitTensor())
            throw new NotFiniteNumberException(zeros(1).dtype.ToString());
    }

    private static Fabric Make(string precision) => new("cpu", "auto", 1, 1, precision);

    private sealed class WideInputs : PrecisionPlugin
    {
        public override string Name => "wide";

        public override ScalarType? InputType => ScalarType.Float64;

        public override IDisposable ForwardContext() => new Autocast(enabled: false);
    }

    private sealed class Same() : nn.Module<Tensor, Tensor>(nameof(Same))
    {
        public override Tensor forward(Tensor input) => input;
    }

    private sealed class Nested() : nn.Module<Dictionary<string, List<Tensor>>, (Tensor X, int Y), (Tensor A, Tensor B, string C)>(nameof(Nested))
    {
        public List<ScalarType> Seen { get; } = [];

        public override (Tensor A, Tensor B, string C) forward(Dictionary<string, List<Tensor>> input1, (Tensor X, int Y) input2)
        {
            Seen.AddRange([input1["x"][0].dtype, input1["x"][1].dtype, input2.X.dtype]);
            return (input1["x"][0] + 1, input1["x"][1], "text");
        }
    }
}
