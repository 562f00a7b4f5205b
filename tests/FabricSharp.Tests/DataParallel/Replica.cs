using FabricSharp.Collectives;
using FabricSharp.DataParallel;
using FabricSharp.Tests.Collectives;
using FabricSharp.Modules;
using TorchSharp;
using static TorchSharp.torch;

namespace FabricSharp.Tests.DataParallel;

/// <summary>One rank's copy of a model with its reducer, and the gradients that it should get.</summary>
internal sealed class Replica<TModule> : IDisposable
    where TModule : nn.Module
{
    public Replica(TModule module, ProcessGroup group, DDPOptions? options = null)
    {
        Module = module;
        Group = group;
        Reducer = new GradientReducer(module, group, options ?? new DDPOptions(), ModuleTensors.Buffers(module));
    }

    public TModule Module { get; }

    public ProcessGroup Group { get; }

    public GradientReducer Reducer { get; }

    public int Rank => Group.Rank;

    /// <summary>Runs <paramref name="body"/> on each rank; no rank leaves before all have ended.</summary>
    public static void Run(int ranks, Func<TModule> make, Action<Replica<TModule>> body, DDPOptions? options = null)
    {
        var failures = RunEach(ranks, make, body, options);
        var first = failures.Where(e => e is not null).MinBy(RankThreads.Remoteness);
        if (first is not null)
            throw new InvalidOperationException($"Rank {Array.IndexOf(failures, first)} failed: {first}", first);
    }

    public static Exception?[] RunEach(int ranks, Func<TModule> make, Action<Replica<TModule>> body, DDPOptions? options = null) =>
        RunEach("shm", ranks, make, body, options);

    public static Exception?[] RunEach(string backend, int ranks, Func<TModule> make, Action<Replica<TModule>> body, DDPOptions? options = null) =>
        GroupOfThreads.RunEach(backend, ranks, group =>
        {
            TModule module;
            lock (GateOfMaking.Lock)
                module = make();
            using var replica = new Replica<TModule>(module, group, options);
            body(replica);
            group.Barrier().Wait();
        });

    /// <summary>A forward and backward pass as Fabric does them.</summary>
    public void Pass(Func<TModule, Tensor> loss)
    {
        Reducer.BeforeForward();
        var value = loss(Module);
        Reducer.BeforeBackward();
        value.backward();
        Reducer.AfterBackward();
    }

    public void ZeroGradients()
    {
        foreach (var parameter in Module.parameters())
            parameter.grad = null;
    }

    /// <summary>
    /// What each gradient is after a pass with every rank's loss: the average, with zeros where a rank did not use the parameter; null where
    /// none did. Leaves the gradients as they were.
    /// </summary>
    public Dictionary<string, Tensor?> Expected(IEnumerable<Func<TModule, Tensor>> losses)
    {
        var mine = Module.named_parameters().Select(p => (p.parameter, p.parameter.grad)).ToList();
        var sums = Module.named_parameters().ToDictionary(p => p.name, p => default(Tensor));
        var count = 0;
        Reducer.RequiresSynchronization = false; // hooks do nothing now
        Reducer.BeforeForward();
        foreach (var loss in losses)
        {
            ZeroGradients();
            loss(Module).backward();
            count++;
            foreach (var (name, parameter) in Module.named_parameters())
                if (parameter.grad is { } gradient)
                    sums[name] = sums[name] is { } sum ? sum + gradient : gradient.clone();
        }

        mine.ForEach(p => p.parameter.grad = p.grad);
        Reducer.RequiresSynchronization = true;
        return sums.ToDictionary(p => p.Key, p => p.Value?.div(count));
    }

    public void RequireGradients(Dictionary<string, Tensor?> expected)
    {
        foreach (var (name, parameter) in Module.named_parameters())
        {
            Assert.True((expected[name] is null) == (parameter.grad is null), $"{name} on rank {Rank}: gradient {(parameter.grad is null ? "missing" : "too many")}.");
            var tolerance = parameter.dtype == ScalarType.BFloat16 ? 0.02 : 1e-5;
            if (expected[name] is { } gradient)
                Assert.True(gradient.allclose(parameter.grad!, tolerance, tolerance), $"{name} on rank {Rank}: {gradient.flatten().str()} expected, {parameter.grad!.flatten().str()} found.");
        }
    }

    /// <summary>Whether all ranks have the same bits in parameters and buffers.</summary>
    public void RequireEqualReplicas() => Replicas.RequireEqual(Module, Group);

    public void Dispose() => Reducer.Dispose();
}

/// <summary>Modules draw their first values from the process's generator: one at a time.</summary>
file static class GateOfMaking
{
    public static readonly Lock Lock = new();
}
