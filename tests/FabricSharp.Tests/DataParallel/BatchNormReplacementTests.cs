using FabricSharp.Collectives;
using FabricSharp.DataParallel;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.DataParallel;

public class BatchNormReplacementTests
{
    [Fact]
    public void Convert_FieldsListsAndContainers_ReplacesEachAndKeepsTheState() => WithGroup(group =>
    {
        using var model = new Everywhere();
        var names = model.state_dict().Keys.ToList();
        var parameters = model.parameters().ToList();
        var buffers = model.buffers().ToList();
        var shared = model.shared;

        Assert.Same(model, SyncBatchNorm.Convert(model, group));

        Assert.Equal(names, model.state_dict().Keys);
        Assert.All(parameters.Zip(model.parameters()), pair => Assert.Same(pair.First, pair.Second));
        Assert.All(buffers.Zip(model.buffers()), pair => Assert.Same(pair.First, pair.Second));
        Assert.DoesNotContain(model.named_modules(), entry => entry.module is BatchNorm);
        Assert.Equal(8, model.named_modules().Select(entry => entry.module).OfType<SyncBatchNorm>().Distinct().Count());
        Assert.All(model.InUse(), module => Assert.IsType<SyncBatchNorm>(module));
        Assert.Same(model.shared, model.Again);
        Assert.NotSame(shared, model.shared);
        Assert.False(((SyncBatchNorm)model.frozen).training);
        Assert.Equal((0.3, 1e-3), (((SyncBatchNorm)model.shared).momentum, ((SyncBatchNorm)model.shared).eps));
    });

    [Fact]
    public void Convert_ThenCollectGarbage_ParametersLive() => WithGroup(group =>
    {
        using var model = new Everywhere();
        SyncBatchNorm.Convert(model, group);
        GC.Collect();
        GC.WaitForPendingFinalizers();
        Assert.All(model.state_dict().Values, tensor => Assert.False(tensor.IsInvalid));
        Assert.All(model.InUse(), norm => Assert.Equal([2, 4], ((SyncBatchNorm)norm).call(rand(2, 4)).shape));
    });

    [Fact]
    public void Convert_FieldOfTheExactType_NamesEveryFieldAndChangesNothing() => WithGroup(group =>
    {
        using var model = new Narrow();
        var message = Assert.Throws<ArgumentException>(() => SyncBatchNorm.Convert(model, group)).Message;
        Assert.Contains("field 'typed' of Narrow is declared as BatchNorm2d", message);
        Assert.Contains("element 0, is declared as BatchNorm1d", message);
        Assert.Contains("Declare it as Module<Tensor, Tensor>", message);
        Assert.Contains("'hidden' is a sub-module of Narrow, but no field", message);
        Assert.IsType<BatchNorm1d>(model.good);
    });

    [Fact]
    public void Convert_TheModuleItself_GivesTheReplacementWhereTheTypeAllows() => WithGroup(group =>
    {
        Assert.IsType<SyncBatchNorm>(SyncBatchNorm.Convert<nn.Module>(nn.BatchNorm3d(2), group));
        Assert.Contains("convert it as a Module<Tensor, Tensor>", Assert.Throws<ArgumentException>(() => SyncBatchNorm.Convert(nn.BatchNorm3d(2), group)).Message);
        var linear = nn.Linear(1, 1);
        Assert.Same(linear, SyncBatchNorm.Convert(linear, group));
    });

    [Fact]
    public void Convert_HooksAndOptimizersMadeBefore_StayValid() => WithGroup(group =>
    {
        var net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2));
        var calls = 0;
        var hook = ((BatchNorm1d)net[1]).register_forward_hook((_, _, output) =>
        {
            calls++;
            return output;
        });
        using var optimizer = optim.Adam(net.parameters(), 0.1);
        SyncBatchNorm.Convert(net, group);
        var before = ((SyncBatchNorm)net[1]).weight.detach().clone();
        net.call(rand(4, 2)).pow(3).sum().backward();
        optimizer.step();
        Assert.False(before.Equals(((SyncBatchNorm)net[1]).weight));
        Assert.Equal(1, calls);
        hook.remove();
        net.call(rand(4, 2));
        Assert.Equal(1, calls);
    });

    [Fact]
    public void ConvertSyncBatchNorm_OfFabric_OneDeviceChangesNothingAndSetUpModulesAreRefused()
    {
        using var one = new Fabric("cpu", devices: 1);
        one.Launch();
        var net = nn.Sequential(nn.BatchNorm1d(2));
        Assert.IsType<BatchNorm1d>(one.ConvertSyncBatchNorm(net)[0]);
        using var fabric = new Fabric("cpu", "ddp_notebook", 2);
        fabric.Launch(rank =>
        {
            var model = rank.Setup(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)));
            Assert.Contains("before `Setup`", Assert.Throws<ArgumentException>(() => rank.ConvertSyncBatchNorm(model)).Message);
            return 0;
        });
    }

    /// <summary>One rank is enough: what is replaced does not depend on their number.</summary>
    private static void WithGroup(Action<ProcessGroup> body)
    {
        using var scope = NewDisposeScope();
        using var store = new HashStore();
        using var group = ProcessGroup.Create("shm", store, 0, 1);
        body(group);
    }

    private sealed class Everywhere : nn.Module<Tensor, Tensor>
    {
        public readonly nn.Module<Tensor, Tensor> shared = nn.BatchNorm1d(4, momentum: 0.3, eps: 1e-3);
        public readonly nn.Module frozen = nn.BatchNorm1d(4);
        private readonly Sequential block = nn.Sequential(("lin", nn.Linear(4, 4)), ("bn", nn.BatchNorm1d(4)), ("inner", nn.Sequential(nn.BatchNorm1d(4))));
        private readonly ModuleList<nn.Module<Tensor, Tensor>> list = nn.ModuleList<nn.Module<Tensor, Tensor>>(nn.BatchNorm1d(4), nn.ReLU());
        private readonly ModuleDict<nn.Module> byName = nn.ModuleDict<nn.Module>(("x", nn.BatchNorm1d(4)));
        private readonly Dictionary<string, nn.Module> plain = new() { ["y"] = nn.BatchNorm1d(4) };
        private readonly nn.Module<Tensor, Tensor>[] array = [nn.BatchNorm1d(4)];

        public Everywhere()
            : base(nameof(Everywhere))
        {
            Again = shared;
            frozen.eval();
            RegisterComponents();
            register_module("plain_y", plain["y"]);
            register_module("array_0", array[0]);
        }

        public nn.Module<Tensor, Tensor> Again { get; }

        public override Tensor forward(Tensor input) => shared.call(input);

        /// <summary>What a forward pass would call.</summary>
        public IEnumerable<object> InUse() => [shared, frozen, block[1], ((Sequential)block[2])[0], list[0], byName["x"], byName[0].Item2, plain["y"], array[0], Again];
    }

    private sealed class Narrow : nn.Module<Tensor, Tensor>
    {
        public readonly nn.Module<Tensor, Tensor> good = nn.BatchNorm1d(2);
        private readonly BatchNorm2d typed = nn.BatchNorm2d(2);
        private readonly List<BatchNorm1d> listed = [nn.BatchNorm1d(2)];

        public Narrow()
            : base(nameof(Narrow))
        {
            RegisterComponents();
            register_module("listed_0", listed[0]);
            register_module("hidden", nn.BatchNorm1d(2));
        }

        public override Tensor forward(Tensor input) => typed.call(input);
    }
}
