using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>The names of what data-parallel training leaves alone, checked against the model.</summary>
internal sealed class IgnoredParameters
{
    private readonly HashSet<string> _names;

    public IgnoredParameters(nn.Module module, IReadOnlyList<(string Name, Tensor Buffer)> buffers, IReadOnlyCollection<string> names)
    {
        _names = [.. names];
        if (_names.Count == 0)
            return;
        var known = module.named_parameters().Select(p => p.name).Concat(buffers.Select(buffer => buffer.Name)).ToHashSet();
        var unknown = _names.Where(name => !known.Contains(name)).Order(StringComparer.Ordinal).ToList();
        if (unknown.Count > 0)
            throw new ArgumentException(
                $"DDP options: ParametersToIgnore names {string.Join(", ", unknown.Select(name => $"'{name}'"))}, which the model {module.GetName()} does not have. " +
                $"Its parameters and buffers are: {string.Join(", ", known.Order(StringComparer.Ordinal).Take(20))}{(known.Count > 20 ? ", …" : "")}.");
    }

    public bool Contains(string name) => _names.Contains(name);
}
