using FabricSharp.Interop.LibTorch;
using FabricSharp.Modules;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Wrappers;

/// <summary>A change of the element type stands for a change of the device: both replace the memory of each tensor.</summary>
public sealed class ModulePlacementTests : IDisposable
{
    private readonly DisposeScope _scope = NewDisposeScope();

    public ModulePlacementTests() => Assert.SkipUnless(TensorData.IsSupported, LibTorchLibrary.NotSupportedReason ?? "");

    public static TheoryData<string> Optimizers => ["SGD", "momentum", "Adam", "AdamW", "RMSprop", "Adagrad"];

    public void Dispose() => _scope.Dispose();

    [Fact]
    public void Move_ToAnotherType_KeepsEveryTensorObject()
    {
        var module = new SummandParts();
        var before = module.parameters().Cast<Tensor>().Concat(ModuleTensors.Buffers(module).Select(b => b.Buffer)).Select(t => t.Handle).ToList();
        ModulePlacement.Move(module, CPU, ScalarType.Float64);
        var after = module.parameters().Cast<Tensor>().Concat(ModuleTensors.Buffers(module).Select(b => b.Buffer)).ToList();
        Assert.Equal(before, after.Select(t => t.Handle));
        Assert.All(after.Where(t => t.is_floating_point()), t => Assert.Equal(ScalarType.Float64, t.dtype));
        Assert.Equal(ScalarType.Int64, module.get_buffer("count")!.dtype);
        Assert.Equal([true, false], module.parameters(recurse: false).Select(p => p.requires_grad));
    }

    [Fact]
    public void Move_Values_AreKept()
    {
        var module = new SummandParts();
        var x = randn(4, 3);
        var before = module.call(x).to(ScalarType.Float64);
        ModulePlacement.Move(module, CPU, ScalarType.Float64);
        Assert.True(before.allclose(module.call(x.to(ScalarType.Float64)), 1e-5, 1e-6));
        Assert.Equal(1.0, module.get_buffer("cache")!.sum().item<double>());
    }

    [Fact]
    public void Buffers_Always_IncludeThoseThatAreNotSaved()
    {
        var names = ModuleTensors.Buffers(new Sum1()).Select(b => b.Name);
        Assert.Equal(["_parts.count", "_parts.cache"], names);
        Assert.Equal(["running_mean", "running_var", "num_batches_tracked"], ModuleTensors.Buffers(nn.BatchNorm1d(3)).Select(b => b.Name).OrderByDescending(n => n[0]).ThenBy(n => n));
    }

    [Fact]
    public void Move_TiedWeights_StayTied()
    {
        var module = new Tied();
        ModulePlacement.Move(module, CPU, ScalarType.Float64);
        Assert.Equal(TensorIdentity.Of(module.Embedding.weight!), TensorIdentity.Of(module.Head.weight!));
        var optimizer = optim.SGD(module.parameters(), 0.1);
        module.call(tensor(new long[] { 1, 2 })).pow(2).sum().backward();
        optimizer.step();
        Assert.True(module.Embedding.weight!.Equals(module.Head.weight!));
    }

    [Theory]
    [MemberData(nameof(Optimizers))]
    public void Move_OptimizerMadeBefore_GoesOnUpdating(string kind)
    {
        var module = nn.Linear(3, 2);
        var optimizer = Make(kind, module);
        ModulePlacement.Move(module, CPU, ScalarType.Float64);
        var before = module.weight!.clone();
        for (var i = 0; i < 3; i++)
        {
            optimizer.zero_grad();
            module.call(ones([1, 3], ScalarType.Float64)).sum().backward();
            optimizer.step();
        }

        Assert.Equal(ScalarType.Float64, module.weight.dtype);
        Assert.False(before.allclose(module.weight));
    }

    [Fact]
    public void Move_WithGradients_ConvertsThem()
    {
        var module = nn.Linear(3, 2);
        module.call(ones(1, 3)).sum().backward();
        ModulePlacement.Move(module, CPU, ScalarType.Float64);
        Assert.Equal(ScalarType.Float64, module.weight!.grad!.dtype);
        Assert.Equal(6, module.weight.grad.sum().item<double>());
        module.call(ones([1, 3], ScalarType.Float64)).sum().backward();
        Assert.Equal(12, module.weight.grad!.sum().item<double>());
    }

    [Fact]
    public void Move_NothingToDo_TouchesNothing()
    {
        var module = new SummandParts();
        var memory = module.parameters().Select(p => TensorMemory.PointerOf(p)).ToList();
        ModulePlacement.Move(module, CPU);
        ModulePlacement.Move(module, CPU, ScalarType.Float32);
        Assert.Equal(memory, module.parameters().Select(p => TensorMemory.PointerOf(p)));
    }

    [Fact]
    public void Move_InAScope_LeavesUsableTensors()
    {
        var module = new SummandParts();
        using (NewDisposeScope())
            ModulePlacement.Move(module, CPU, ScalarType.Float64);
        module.call(ones([1, 3], ScalarType.Float64));
    }

    [Theory]
    [InlineData("LSTM")]
    [InlineData("MultiheadAttention")]
    [InlineData("BatchNorm")]
    [InlineData("TransformerEncoderLayer")]
    public void Move_NativeModules_ComputeInTheNewType(string kind)
    {
        (nn.Module module, Func<Tensor> run) = kind switch
        {
            "LSTM" => Pair(nn.LSTM(4, 3), m => m.call(ones([5, 2, 4], ScalarType.Float64)).Item1),
            "MultiheadAttention" => Pair(nn.MultiheadAttention(8, 2), m => m.call(Doubles(5, 2, 8), Doubles(5, 2, 8), Doubles(5, 2, 8), null, false, null).Item1),
            "BatchNorm" => Pair(nn.BatchNorm1d(4), m => m.call(Doubles(5, 4))),
            _ => Pair(nn.TransformerEncoderLayer(8, 2, 16), m => m.call(Doubles(5, 2, 8), null!, null!)),
        };
        ModulePlacement.Move(module, CPU, ScalarType.Float64);
        var output = run();
        Assert.Equal(ScalarType.Float64, output.dtype);
        output.pow(2).sum().backward();
        Assert.All(module.parameters(), p => Assert.Equal(ScalarType.Float64, p.grad!.dtype));
    }

    private static Tensor Doubles(params long[] shape) => randn(shape, ScalarType.Float64);

    private static (nn.Module, Func<Tensor>) Pair<T>(T module, Func<T, Tensor> run)
        where T : nn.Module => (module, () => run(module));

    private static optim.Optimizer Make(string kind, nn.Module module) => kind switch
    {
        "SGD" => optim.SGD(module.parameters(), 0.1),
        "momentum" => optim.SGD(module.parameters(), 0.1, momentum: 0.9),
        "Adam" => optim.Adam(module.parameters(), 0.1),
        "AdamW" => optim.AdamW(module.parameters(), 0.1),
        "RMSprop" => optim.RMSProp(module.parameters(), 0.1),
        _ => optim.Adagrad(module.parameters(), 0.1),
    };

    private sealed class Tied : nn.Module<Tensor, Tensor>
    {
        private readonly Embedding embedding = nn.Embedding(5, 3);
        private readonly Linear head = nn.Linear(3, 5, hasBias: false);

        public Tied()
            : base(nameof(Tied))
        {
            head.weight = embedding.weight!;
            RegisterComponents();
        }

        public Embedding Embedding => embedding;

        public Linear Head => head;

        public override Tensor forward(Tensor x) => head.call(embedding.call(x));
    }
}
