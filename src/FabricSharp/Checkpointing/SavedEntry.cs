using System.Text.Json;
using static TorchSharp.torch;

namespace FabricSharp.Checkpointing;

/// <summary>What an entry of a checkpoint is.</summary>
internal enum EntryKind
{
    /// <summary>A module's parameters and persistent buffers, in a file of their own.</summary>
    Module,

    /// <summary>An optimizer's options and state, in a file of their own.</summary>
    Optimizer,

    /// <summary>One tensor.</summary>
    Tensor,

    /// <summary>Anything that JSON can hold.</summary>
    Value,

    /// <summary>How far a learning-rate scheduler has come.</summary>
    Scheduler,

    /// <summary>A gradient scaler's state.</summary>
    GradScaler,

    /// <summary>A distributed sampler's epoch.</summary>
    Sampler,

    /// <summary>Where a data loader goes on, for each rank.</summary>
    DataLoader,

    /// <summary>The states of random number generators, for each rank.</summary>
    Random,

    /// <summary>Dictionaries and lists with tensors in them, which only files of PyTorch have.</summary>
    Nested,
}

/// <summary>An entry on its way into a checkpoint.</summary>
/// <param name="Key">The user's name for it.</param>
/// <param name="Kind">What it is.</param>
/// <param name="Tensors">The tensors themselves, not copies.</param>
/// <param name="Metadata">Texts for the file of the tensors.</param>
/// <param name="Value">For the kinds that are JSON.</param>
internal sealed record SavedEntry(
    string Key, EntryKind Kind, IReadOnlyList<(string Name, Tensor Tensor)> Tensors, IReadOnlyDictionary<string, string> Metadata, JsonElement Value = default)
{
    /// <summary>The keys of the safetensors header that other readers look at.</summary>
    public static readonly IReadOnlyDictionary<string, string> PlainMetadata = new Dictionary<string, string> { ["format"] = "pt" };

    /// <summary>Everything that is to be saved.</summary>
    /// <param name="state">The objects and values by name.</param>
    /// <param name="filter">What of modules and dictionaries to save; null saves everything.</param>
    /// <param name="ranks">Each rank's own parts, from <see cref="RankParts"/>.</param>
    /// <exception cref="ArgumentException">Something cannot be saved.</exception>
    public static IReadOnlyList<SavedEntry> OfAll(IReadOnlyDictionary<string, object?> state, IReadOnlyDictionary<string, Func<string, object, bool>>? filter, IReadOnlyList<byte[]> ranks) =>
        [.. state.Select(entry => Of(entry.Key, EntryFilter.Apply(entry.Key, entry.Value, filter), ranks))];

    private static SavedEntry Of(string key, object? value, IReadOnlyList<byte[]> ranks)
    {
        var entry = Plain(value) switch
        {
            FilteredModule module => new SavedEntry(key, EntryKind.Module, module.Tensors, PlainMetadata),
            nn.Module module => new SavedEntry(key, EntryKind.Module, ModuleState.TensorsOf(module), PlainMetadata),
            optim.Optimizer optimizer => OptimizerState.Save(key, optimizer),
            Tensor tensor => new SavedEntry(key, EntryKind.Tensor, [(key, tensor)], PlainMetadata),
            { } training when TrainingState.KindOf(training) is { } kind => new SavedEntry(key, kind, [], PlainMetadata, TrainingState.Save(ranks, key, training)),
            var plain => new SavedEntry(key, EntryKind.Value, [], PlainMetadata, PlainValue.Save(key, plain)),
        };
        foreach (var (name, tensor) in entry.Tensors)
            SafetensorsWriter.RequireSupported($"Save(state[\"{key}\"])", name, tensor);
        return entry;
    }

    /// <summary>Whether the entry has a file with tensors.</summary>
    public bool HasTensors => Kind is EntryKind.Module or EntryKind.Optimizer or EntryKind.Tensor;

    /// <summary>The size of its tensors.</summary>
    public long Bytes => Tensors.Sum(tensor => tensor.Tensor.NumberOfElements * tensor.Tensor.ElementSize);

    /// <summary>The same with copies of the tensors in the CPU's memory, which whoever calls this disposes.</summary>
    public SavedEntry Snapshot()
    {
        var copies = new List<(string, Tensor)>(Tensors.Count);
        try
        {
            foreach (var (name, tensor) in Tensors)
                copies.Add((name, CopyOf(tensor)));
            return this with { Tensors = copies };
        }
        catch
        {
            copies.ForEach(copy => copy.Item2.Dispose());
            throw;
        }
    }

    private static Tensor CopyOf(Tensor tensor)
    {
        using var gradientsOff = no_grad();
        using var scope = NewDisposeScope();
        var copy = empty(tensor.shape, tensor.dtype, CPU);
        copy.copy_(tensor);
        return copy.DetachFromDisposeScope();
    }

    /// <summary>The original of what <c>Setup</c> gave back.</summary>
    public static object? Plain(object? value) => value switch
    {
        IFabricModule wrapped => wrapped.Module,
        FabricOptimizer wrapped => wrapped.Optimizer,
        _ => value,
    };
}
