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

    /// <summary>Dictionaries and lists with tensors in them, which only files of PyTorch have.</summary>
    Nested,
}

/// <summary>An entry on its way into a checkpoint.</summary>
/// <param name="Key">The user's name for it.</param>
/// <param name="Kind">What it is.</param>
/// <param name="Tensors">The tensors themselves, not copies.</param>
/// <param name="Metadata">Texts for the file of the tensors.</param>
/// <param name="Value">For <see cref="EntryKind.Value"/>.</param>
internal sealed record SavedEntry(
    string Key, EntryKind Kind, IReadOnlyList<(string Name, Tensor Tensor)> Tensors, IReadOnlyDictionary<string, string> Metadata, JsonElement Value = default)
{
    /// <summary>The keys of the safetensors header that other readers look at.</summary>
    public static readonly IReadOnlyDictionary<string, string> PlainMetadata = new Dictionary<string, string> { ["format"] = "pt" };

    /// <exception cref="ArgumentException">The object cannot be saved.</exception>
    public static SavedEntry Of(string key, object? value)
    {
        var entry = Plain(value) switch
        {
            nn.Module module => new SavedEntry(key, EntryKind.Module, ModuleState.TensorsOf(module), PlainMetadata),
            optim.Optimizer optimizer => OptimizerState.Save(key, optimizer),
            Tensor tensor => new SavedEntry(key, EntryKind.Tensor, [(key, tensor)], PlainMetadata),
            var plain => new SavedEntry(key, EntryKind.Value, [], PlainMetadata, PlainValue.Save(key, plain)),
        };
        foreach (var (name, tensor) in entry.Tensors)
            SafetensorsWriter.RequireSupported($"Save(state[\"{key}\"])", name, tensor);
        return entry;
    }

    /// <summary>The original of what <c>Setup</c> gave back.</summary>
    public static object? Plain(object? value) => value switch
    {
        IFabricModule wrapped => wrapped.Module,
        FabricOptimizer wrapped => wrapped.Optimizer,
        _ => value,
    };
}
