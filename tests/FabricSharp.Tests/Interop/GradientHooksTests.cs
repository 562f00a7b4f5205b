using FabricSharp.Interop.LibTorch;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Interop;

public sealed class GradientHooksTests : IDisposable
{
    private readonly DisposeScope _scope = NewDisposeScope();

    public GradientHooksTests() => Assert.SkipUnless(GradientHooks.IsSupported, GradientHooks.NotSupportedReason ?? "");

    public void Dispose() => _scope.Dispose();

    public static TheoryData<string> Models => ["Linear", "LSTM", "Embedding", "MultiheadAttention", "TransformerEncoderLayer", "BatchNorm", "Convolution"];

    [Theory]
    [MemberData(nameof(Models))]
    public void Hook_OfEachParameter_FiresOncePerBackwardAndTheEndComesLast(string model)
    {
        var (module, loss) = Make(model);
        var parameters = module.named_parameters().Select(p => p.parameter).ToList();
        var recorder = new Recorder(parameters);
        for (var pass = 0; pass < 2; pass++)
        {
            recorder.Events.Clear();
            loss().backward();
            Assert.Equal(Enumerable.Range(0, parameters.Count), recorder.Events.SkipLast(1).Select(int.Parse).Order());
            Assert.Equal("end", recorder.Events[^1]);
            Assert.True(recorder.GradientsWereThere);
        }
    }

    [Fact]
    public void Hook_OfAParameterUsedTwice_FiresOnceWithTheSum()
    {
        var p = new Parameter(ones(2), requires_grad: true);
        var recorder = new Recorder([p]);
        (p.sum() + (p * 3).sum()).backward();
        Assert.Equal(["0", "end"], recorder.Events);
        Assert.Equal(8, p.grad!.sum().item<float>());
    }

    [Fact]
    public void Hook_OfAnUnusedParameter_DoesNotFire()
    {
        var (used, unused) = (new Parameter(ones(2), requires_grad: true), new Parameter(ones(2), requires_grad: true));
        var recorder = new Recorder([used, unused]);
        used.sum().backward();
        Assert.Equal(["0", "end"], recorder.Events);
    }

    [Fact]
    public void Hook_Cleared_FiresNoMore()
    {
        var (kept, cleared) = (new Parameter(ones(2), requires_grad: true), new Parameter(ones(2), requires_grad: true));
        var recorder = new Recorder([kept, cleared]);
        GradientHooks.Clear(cleared);
        GradientHooks.Clear(cleared);
        (kept * cleared).sum().backward();
        Assert.Equal(["0", "end"], recorder.Events);
        Assert.Equal(2, cleared.grad!.sum().item<float>());
    }

    [Fact]
    public void Hook_RegisteredAgain_ReplacesTheFirst()
    {
        var p = new Parameter(ones(2), requires_grad: true);
        var (first, second) = (new Recorder([p]), new Recorder([p]));
        p.sum().backward();
        Assert.Empty(first.Events);
        Assert.Equal(["0", "end"], second.Events);
    }

    [Fact]
    public void Hook_AfterTheGradientWasTakenAway_FiresAgain()
    {
        var p = new Parameter(ones(2), requires_grad: true);
        var recorder = new Recorder([p]);
        p.sum().backward();
        p.grad = null;
        p.sum().backward();
        Assert.Equal(["0", "end", "0", "end"], recorder.Events);
    }

    [Fact]
    public void Hook_UnderInputsGrad_DoesNotFire()
    {
        var p = new Parameter(ones(2), requires_grad: true);
        var recorder = new Recorder([p]);
        autograd.grad([(p * 2).sum()], [p]);
        Assert.Empty(recorder.Events);
    }

    [Fact]
    public void Hook_TargetNotHeldByTheUser_IsKeptAlive()
    {
        var p = new Parameter(ones(2), requires_grad: true);
        var counts = new int[1];
        Register(p, counts);
        GC.Collect();
        GC.WaitForPendingFinalizers();
        p.sum().backward();
        Assert.Equal(1, counts[0]);

        [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
        static void Register(Parameter p, int[] counts) => GradientHooks.Register(p, new Counter(counts), 0);
    }

    [Fact]
    public void Hook_Cleared_LetsItsTargetGo()
    {
        var p = new Parameter(ones(2), requires_grad: true);
        var target = RegisterAndClear(p);
        Assert.True(SpinWait.SpinUntil(
            () =>
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
                return !target.IsAlive;
            },
            TimeSpan.FromSeconds(20)));

        [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
        static WeakReference RegisterAndClear(Parameter p)
        {
            var recorder = new Recorder([p]);
            p.sum().backward();
            GradientHooks.Clear(p);
            return new WeakReference(recorder);
        }
    }

    [Fact]
    public void Hooks_OnTwoThreads_HearOfTheirOwnGraphs() => Collectives.RankThreads.Run(2, rank =>
    {
        using var scope = NewDisposeScope();
        var p = new Parameter(ones(2), requires_grad: true);
        var recorder = new Recorder([p]);
        for (var i = 0; i < 200; i++)
        {
            using var loss = (p * 2).sum();
            loss.backward();
        }

        Assert.Equal(Enumerable.Repeat(new[] { "0", "end" }, 200).SelectMany(e => e), recorder.Events);
    });

    private static (nn.Module, Func<Tensor>) Make(string model)
    {
        switch (model)
        {
            case "Linear":
                var linear = nn.Linear(4, 3);
                return (linear, () => linear.call(randn(5, 4)).sum());
            case "LSTM":
                var lstm = nn.LSTM(4, 3, numLayers: 2, bidirectional: true);
                return (lstm, () => lstm.call(randn(5, 2, 4)).Item1.sum());
            case "Embedding":
                var embedding = nn.Embedding(10, 3);
                return (embedding, () => embedding.call(tensor(new long[] { 1, 2, 1 })).sum());
            case "MultiheadAttention":
                var attention = nn.MultiheadAttention(8, 2);
                return (attention, () => attention.call(randn(5, 2, 8), randn(5, 2, 8), randn(5, 2, 8), null, true, null).Item1.sum());
            case "TransformerEncoderLayer":
                var layer = nn.TransformerEncoderLayer(8, 2, 16);
                return (layer, () => layer.call(randn(5, 2, 8), null!, null!).pow(2).sum());
            case "BatchNorm":
                var norm = nn.BatchNorm1d(4);
                return (norm, () => norm.call(randn(5, 4)).sum());
            default:
                var convolution = nn.Conv2d(2, 3, 3);
                return (convolution, () => convolution.call(randn(2, 2, 6, 6)).sum());
        }
    }

    private sealed class Counter(int[] counts) : IGradientHookTarget
    {
        public void OnGradientReady(int index) => counts[index]++;

        public void OnBackwardEnd()
        {
        }
    }

    /// <summary>Writes down what it hears; asks for the end once per pass.</summary>
    private sealed class Recorder : IGradientHookTarget
    {
        private readonly IReadOnlyList<Parameter> _parameters;

        public Recorder(IReadOnlyList<Parameter> parameters)
        {
            _parameters = parameters;
            for (var i = 0; i < parameters.Count; i++)
                GradientHooks.Register(parameters[i], this, i);
        }

        public List<string> Events { get; } = [];

        public bool GradientsWereThere { get; private set; } = true;

        public void OnGradientReady(int index)
        {
            if (Events.Count == 0 || Events[^1] == "end")
                GradientHooks.QueueBackwardEnd(this);
            GradientsWereThere &= GradientAccess.GradientOf(_parameters[index].Handle) != IntPtr.Zero;
            Events.Add(index.ToString());
        }

        public void OnBackwardEnd() => Events.Add("end");
    }
}
