using System.Text.Json;
using FabricSharp.Checkpointing;
using FabricSharp.Collectives;
using static TorchSharp.torch;
using Parameter = TorchSharp.Modules.Parameter;

namespace FabricSharp.DataParallel;

/// <summary>The states of all parameters on one rank: its own as they are, the others' as copies.</summary>
internal sealed class StateConsolidation : IDisposable
{
    private readonly List<(string Name, Tensor Tensor)> _tensors = [];
    private readonly List<Tensor> _copies = [];
    private readonly IReadOnlyDictionary<string, JsonElement>[] _fields;

    private StateConsolidation(int parameters) => _fields = new IReadOnlyDictionary<string, JsonElement>[parameters];

    public IReadOnlyList<IReadOnlyDictionary<string, JsonElement>> Fields => _fields;

    public IReadOnlyList<(string Name, Tensor Tensor)> Tensors => _tensors;

    /// <summary>Collective, unless <paramref name="group"/> is null: there is one rank then.</summary>
    /// <param name="group">The ranks.</param>
    /// <param name="states">One for each parameter; null where another rank has it.</param>
    /// <param name="parameters">The parameters.</param>
    /// <param name="to">The rank that gets the states.</param>
    /// <returns>Null on other ranks.</returns>
    public static StateConsolidation? Run(ProcessGroup? group, IReadOnlyList<TorchSharp.Modules.OptimizerState?> states, IReadOnlyList<Parameter> parameters, int to)
    {
        var own = OptimizerState.SaveStates(states);
        var (rank, size) = (group?.Rank ?? 0, group?.Size ?? 1);
        var result = rank == to ? new StateConsolidation(parameters.Count) : null;
        result?.AddOwn(states, own.Fields, own.Tensors);
        if (size == 1)
            return result;
        var texts = group!.AllGatherObject(Describe(states, own.Fields, own.Tensors));
        using var gradientsOff = no_grad();
        for (var owner = 0; owner < size; owner++)
        {
            if (owner == to)
                continue;
            var share = JsonSerializer.Deserialize<Share>(texts[owner], OptimizerDescription.Json)!;
            result?.AddFields(share);
            for (var i = 0; i < share.Tensors.Count; i++)
                Exchange(group!, share.Tensors[i], rank == owner ? own.Tensors[i].Tensor : null, parameters, owner, result);
        }

        return result;
    }

    public void Dispose() => _copies.ForEach(copy => copy.Dispose());

    private void AddOwn(
        IReadOnlyList<TorchSharp.Modules.OptimizerState?> states, IReadOnlyList<IReadOnlyDictionary<string, JsonElement>> fields, IReadOnlyList<(string, Tensor)> tensors)
    {
        for (var i = 0; i < states.Count; i++)
            if (states[i] is not null)
                _fields[i] = fields[i];
        _tensors.AddRange(tensors);
    }

    private void AddFields(Share share)
    {
        foreach (var (index, fields) in share.Fields)
            _fields[index] = fields;
    }

    private static string Describe(
        IReadOnlyList<TorchSharp.Modules.OptimizerState?> states, IReadOnlyList<IReadOnlyDictionary<string, JsonElement>> fields, IReadOnlyList<(string Name, Tensor Tensor)> tensors)
    {
        var share = new Share(
            Enumerable.Range(0, states.Count).Where(i => states[i] is not null).ToDictionary(i => i, i => fields[i]),
            [.. tensors.Select(one => new Layout(one.Name, one.Tensor.dtype, one.Tensor.shape))]);
        return JsonSerializer.Serialize(share, OptimizerDescription.Json);
    }

    /// <summary>Every rank takes part, though one only needs the tensor; the others' memory is free again at once.</summary>
    private static void Exchange(ProcessGroup group, Layout layout, Tensor? source, IReadOnlyList<Parameter> parameters, int owner, StateConsolidation? result)
    {
        using var scope = NewDisposeScope();
        var sent = source?.contiguous() ?? empty(layout.Shape, layout.Type, parameters[0].device);
        group.Broadcast(sent, owner).Wait();
        if (result is null)
            return;
        result._copies.Add(sent.DetachFromDisposeScope());
        result._tensors.Add((layout.Name, sent));
    }

    /// <summary>What one rank has.</summary>
    /// <param name="Fields">By position of the parameter.</param>
    /// <param name="Tensors">In the order in which they are sent.</param>
    private sealed record Share(Dictionary<int, IReadOnlyDictionary<string, JsonElement>> Fields, IReadOnlyList<Layout> Tensors);

    private sealed record Layout(string Name, ScalarType Type, long[] Shape);
}
