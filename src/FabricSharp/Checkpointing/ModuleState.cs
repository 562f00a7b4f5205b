using static TorchSharp.torch;

namespace FabricSharp.Checkpointing;

/// <summary>A module's parameters and persistent buffers under their names in the original module.</summary>
internal static class ModuleState
{
    /// <summary>What is saved: each tensor once, under its first name.</summary>
    public static IReadOnlyList<(string Name, Tensor Tensor)> TensorsOf(nn.Module module) => [.. Groups(module).Select(group => (group.Names[0], group.Tensor))];

    /// <summary>Checks that <paramref name="file"/> fits.</summary>
    /// <returns>Copies the values into the existing tensors.</returns>
    /// <exception cref="CheckpointException">A shape or type differs, or (strict) a name is missing or unexpected. Names all.</exception>
    public static Action PlanLoad(nn.Module module, TensorFile file, bool strict)
    {
        var groups = Groups(module);
        var found = groups.Select(group => (group.Tensor, Name: group.Names.Find(file.Tensors.ContainsKey))).ToList();
        var problems = found.Where(f => f.Name is not null).SelectMany(f => Difference(f.Name!, file.Tensors[f.Name!], f.Tensor)).ToList();
        if (strict)
        {
            problems.AddRange(groups.Where(group => !group.Names.Exists(file.Tensors.ContainsKey)).Select(group => $"missing in the file: {group.Names[0]} ({StoredTensor.LayoutOf(group.Tensor)})"));
            var known = groups.SelectMany(group => group.Names).ToHashSet();
            problems.AddRange(file.Tensors.Values.Where(stored => !known.Contains(stored.Name)).Select(stored => $"not in the module: {stored.Name} ({stored.Layout})"));
        }

        if (problems.Count > 0)
            throw new CheckpointException($"'{file.Path}' does not fit the module {module.GetName()}:{string.Concat(problems.Select(problem => $"\n  {problem}"))}\nNothing was changed.{(strict ? " Use `strict: false` to skip missing and unexpected names." : "")}");
        return () =>
        {
            foreach (var (tensor, name) in found)
                if (name is not null)
                    file.Read(name, tensor);
        };
    }

    /// <summary>The names that only the module or only the file has.</summary>
    public static IncompatibleKeys Compare(nn.Module module, TensorFile file)
    {
        var groups = Groups(module);
        var known = groups.SelectMany(group => group.Names).ToHashSet();
        return new IncompatibleKeys(
            [.. groups.Where(group => !group.Names.Exists(file.Tensors.ContainsKey)).Select(group => group.Names[0])],
            [.. file.Tensors.Keys.Where(name => !known.Contains(name))]);
    }

    /// <summary>One line when a stored tensor cannot be copied into <paramref name="target"/>.</summary>
    public static IEnumerable<string> Difference(string name, StoredTensor stored, Tensor target)
    {
        if (stored.Type != target.dtype || !stored.Shape.AsSpan().SequenceEqual(target.shape))
            yield return $"{name} is {stored.Layout} in the file, but {StoredTensor.LayoutOf(target)} here";
    }

    /// <summary>Tied tensors have several names; a file may have any of them.</summary>
    public static IReadOnlyList<(List<string> Names, Tensor Tensor)> Groups(nn.Module module)
    {
        var groups = new List<(List<string> Names, Tensor Tensor)>();
        var byHandle = new Dictionary<IntPtr, List<string>>();
        foreach (var (name, tensor) in module.state_dict())
            if (!tensor.IsInvalid && byHandle.TryGetValue(tensor.Handle, out var names))
            {
                names.Add(name);
            }
            else
            {
                groups.Add(([name], tensor));
                if (!tensor.IsInvalid)
                    byHandle.Add(tensor.Handle, groups[^1].Names);
            }

        return groups;
    }
}
