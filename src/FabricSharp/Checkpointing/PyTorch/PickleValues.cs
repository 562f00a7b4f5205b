namespace FabricSharp.Checkpointing.PyTorch;

// Besides these a pickle gives null, bool, long, BigInteger, double, string, byte[] and Complex.

/// <summary>A tuple, or a <c>torch.Size</c>.</summary>
internal sealed record PickleTuple(object?[] Items);

/// <summary>A list.</summary>
internal sealed class PickleList
{
    public List<object?> Items { get; } = [];
}

/// <summary>A set or frozen set, in the order of the file.</summary>
internal sealed class PickleSet
{
    public List<object?> Items { get; } = [];
}

/// <summary>
/// A dict or one of its kinds. The pairs are kept as they come: a hash table of a stranger's keys could be made to take for ever.
/// </summary>
internal sealed class PickleDict
{
    public List<(object? Key, object? Value)> Items { get; } = [];
}

/// <summary>A device or an element type: known by its name alone.</summary>
internal sealed record PickleText(string Text);

/// <summary>A class or function of Python that a pickle named and that is known here.</summary>
/// <param name="Name">Module and name.</param>
/// <param name="Call">What stands here for calling it; null when it cannot be called.</param>
/// <param name="Element">For storage classes and element types.</param>
internal sealed record PickleGlobal(string Name, Func<object?[], object?>? Call = null, TorchElement? Element = null);
