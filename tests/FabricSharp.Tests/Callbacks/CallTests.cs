using FabricSharp.Strategies;
using FabricSharp.Tests.Loggers;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Callbacks;

public class CallTests
{
    private static readonly List<string> Seen = [];

    [Fact]
    public void Call_SeveralCallbacks_RunsThemInOrderWithWhatTheyTake()
    {
        Seen.Clear();
        using var fabric = new Fabric(accelerator: "cpu", callbacks: [new Takes(), new object(), new TakesAll(), new Delegates()]);
        fabric.Call("OnStep", new { loss = 0.5, batch = 3, Extra = "x" });
        Assert.Equal(["Takes 0.5 3 default", "TakesAll loss,batch,Extra", "Delegates 3"], Seen);
    }

    [Fact]
    public void Call_Dictionary_GivesTheSame()
    {
        Seen.Clear();
        using var fabric = new Fabric(accelerator: "cpu", callbacks: [new Takes()]);
        fabric.Call("OnStep", new Dictionary<string, object?> { ["LOSS"] = 1.5, ["batch"] = 4, ["option"] = "given" });
        fabric.Call("OnStep", new Dictionary<string, int> { ["loss"] = 2, ["batch"] = 5 });
        Assert.Equal(["Takes 1.5 4 given", "Takes 2 5 default"], Seen);
    }

    [Fact]
    public void Hooks_OfFabricItself_GetTheOriginals()
    {
        var watch = new Watch();
        using var fabric = new Fabric(accelerator: "cpu", callbacks: [watch]);
        var net = nn.Linear(2, 1);
        var original = optim.SGD(net.parameters(), 0.1);
        var (model, optimizer) = fabric.Setup(net, original);
        Assert.Equal([(fabric, net)], watch.SetUps);
        for (var step = 1; step <= 2; step++)
        {
            fabric.Backward(model.call(ones(1, 2)).sum());
            optimizer.step();
            Assert.Equal(step, watch.Steps.Count);
        }

        Assert.All(watch.Steps, step => Assert.Same(original, step.Optimizer));
        Assert.All(watch.Steps, step => Assert.Same(fabric.Strategy, step.Strategy));
    }

    [Fact]
    public void Call_HookOfNoOne_DoesNothing()
    {
        using var fabric = new Fabric(accelerator: "cpu", callbacks: [new Takes()]);
        Assert.Equal("", StandardError.Of(() => fabric.Call("OnSomethingElse", new { x = 1 })));
    }

    [Fact]
    public void Call_MemberThatIsNotCallable_WarnsAndGoesOn()
    {
        Seen.Clear();
        using var fabric = new Fabric(accelerator: "cpu", callbacks: [new NotCallable(), new Takes()]);
        var warning = StandardError.Of(() => fabric.Call("OnStep", new { loss = 1.0, batch = 1 }));
        Assert.Contains("Skipping the callback `NotCallable.OnStep` because it is not callable.", warning, StringComparison.Ordinal);
        Assert.Single(Seen);
    }

    [Fact]
    public void Call_Overloads_TakesTheOneThatFitsBest()
    {
        Seen.Clear();
        using var fabric = new Fabric(accelerator: "cpu", callbacks: [new Overloaded()]);
        fabric.Call("OnStep");
        fabric.Call("OnStep", new { batch = 1 });
        Assert.Equal(["none", "batch 1"], Seen);
    }

    [Fact]
    public void Call_ArgumentMissingOrOfAnotherType_IsAnErrorThatNamesIt()
    {
        using var fabric = new Fabric(accelerator: "cpu", callbacks: [new Takes()]);
        Assert.Contains("`Takes.OnStep` has a parameter `batch` that `Call` did not give. Given: loss", Assert.Throws<ArgumentException>(() => fabric.Call("OnStep", new { loss = 1.0 })).Message, StringComparison.Ordinal);
        Assert.Contains("The parameter `batch` of the callback `Takes.OnStep` is a Int32", Assert.Throws<ArgumentException>(() => fabric.Call("OnStep", new { loss = 1.0, batch = "one" })).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("OnFail")]
    [InlineData("OnFailAsync")]
    public void Call_HookThrows_ItsExceptionComesThroughAsItIs(string hook)
    {
        using var fabric = new Fabric(accelerator: "cpu", callbacks: [new Fails()]);
        Assert.Equal("sample 17", Assert.Throws<InvalidDataException>(() => fabric.Call(hook)).Message);
    }

    public sealed class Takes
    {
#pragma warning disable CA1822 // hooks are called on objects
        public void OnStep(double loss, int batch, string option = "default") => Seen.Add(FormattableString.Invariant($"Takes {loss} {batch} {option}"));
    }

    public sealed class TakesAll
    {
        public void OnStep(IReadOnlyDictionary<string, object?> arguments) => Seen.Add($"TakesAll {string.Join(',', arguments.Keys)}");
    }

    public sealed class Delegates
    {
        public Action<int> OnStep { get; } = batch => Seen.Add($"Delegates {batch}");
    }

    public sealed class NotCallable
    {
        public int OnStep { get; } = 1;
    }

    public sealed class Overloaded
    {
        public void OnStep() => Seen.Add("none");

        public void OnStep(int batch) => Seen.Add($"batch {batch}");

        public void OnStep(int batch, string text) => Seen.Add($"both {batch} {text}");
    }

    public sealed class Fails
    {
        public void OnFail() => throw new InvalidDataException("sample 17");

        public async Task OnFailAsync()
        {
            await Task.Yield();
            throw new InvalidDataException("sample 17");
        }
    }

    private sealed class Watch
    {
        public List<(Fabric Fabric, nn.Module Module)> SetUps { get; } = [];

        public List<(Strategy Strategy, optim.Optimizer Optimizer)> Steps { get; } = [];

        public void OnAfterSetup(Fabric fabric, nn.Module module) => SetUps.Add((fabric, module));

        public void OnAfterOptimizerStep(Strategy strategy, optim.Optimizer optimizer) => Steps.Add((strategy, optimizer));
    }
}
