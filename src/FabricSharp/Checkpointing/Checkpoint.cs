using FabricSharp.Checkpointing.PyTorch;
using static TorchSharp.torch;

namespace FabricSharp.Checkpointing;

/// <summary>
/// Checkpoints of a program that has one process and no <see cref="Fabric"/>: the same files as <see cref="Fabric.Save"/> makes, readable by either.
/// </summary>
public static class Checkpoint
{
    /// <inheritdoc cref="Fabric.Save"/>
    /// <summary>Saves <paramref name="state"/> as a checkpoint. Local.</summary>
    public static void Save(string path, Dictionary<string, object?> state, Dictionary<string, Func<string, object, bool>>? filter = null, int? keepLast = null)
    {
        var request = new SaveRequest(path, state, filter, keepLast);
        CheckpointWriter.Write(request.Place, request.Entries([RankParts.Of(state)]), keepLast);
    }

    /// <inheritdoc cref="Fabric.Load"/>
    /// <summary>Loads a checkpoint into the objects of <paramref name="state"/>. Everything is checked first. Local.</summary>
    public static IReadOnlyDictionary<string, object?> Load(string path, Dictionary<string, object?>? state = null, bool strict = true)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(path);
        using var plan = LoadPlan.ForState(path, state, strict, RankOf.One);
        foreach (var warning in plan.Warnings)
            Console.Error.WriteLine($"FabricSharp: {warning}");
        return plan.Apply();
    }

    /// <summary>Loads the values of one module, in place. Everything is checked first: when anything does not fit, nothing is changed. Local.</summary>
    /// <param name="path">A checkpoint, or a <c>.safetensors</c> file.</param>
    /// <param name="module">A plain module, or what <c>Setup</c> gave back.</param>
    /// <param name="key">The module's name in the checkpoint. <value>Default null: the only module there is.</value></param>
    /// <param name="strict">False skips names that only one side has; different shapes and element types are errors always. <value>Default true.</value></param>
    /// <returns>The names that were skipped.</returns>
    /// <exception cref="CheckpointException">The checkpoint is missing or corrupt or does not fit; the message names every tensor that does not.</exception>
    public static IncompatibleKeys LoadModule(string path, nn.Module module, string? key = null, bool strict = true)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(path);
        ArgumentNullException.ThrowIfNull(module);
        using var plan = LoadPlan.ForOne(path, module, strict, key);
        plan.ApplyOnly();
        return plan.Incompatible!;
    }

    /// <summary>
    /// Finds the checkpoint to resume from: of those named <paramref name="stem"/> and a number, the complete one with the largest number. What a
    /// killed saver left is passed over. Local; files are not verified before they are loaded.
    /// </summary>
    /// <param name="stem">The path without its number, such as <c>"runs/a/step-"</c>.</param>
    /// <returns>The full path; null where there is none.</returns>
    public static string? Latest(string stem)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(stem);
        return CheckpointFamily.Latest(stem);
    }

    /// <summary>Compares the names, shapes and element types of a module with those of a checkpoint. Changes nothing. Local.</summary>
    /// <param name="path">
    /// A folder that <c>Fabric.Save</c> made, a <c>.safetensors</c> file, or a file of PyTorch or Lightning (<c>.pt</c>, <c>.pth</c>, <c>.ckpt</c>).
    /// </param>
    /// <param name="module">As it is, or as <c>Setup</c> gave it back.</param>
    /// <param name="key">The entry that holds the module, such as <c>state_dict</c>. <value>Default null: the only one that is a module's.</value></param>
    /// <returns>What differs, after names were matched as <c>Fabric.LoadRaw</c> matches them.</returns>
    /// <exception cref="CheckpointException">There is no such checkpoint or entry, or it is corrupt.</exception>
    public static ModuleComparison Compare(string path, nn.Module module, string? key = null)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(path);
        ArgumentNullException.ThrowIfNull(module);
        using var reader = CheckpointReader.Open(path, checkSums: false);
        var own = (nn.Module)SavedEntry.Plain(module)!;
        var file = reader.TensorsOf(key, EntryKind.Module);
        return Compare(reader.IsFolder ? file : PythonNames.Fit(file, own), own);
    }

    private static ModuleComparison Compare(TensorFile file, nn.Module module)
    {
        var groups = ModuleState.Groups(module);
        var known = groups.SelectMany(group => group.Names).ToHashSet();
        var missing = groups.Where(group => !group.Names.Exists(file.Tensors.ContainsKey)).Select(group => group.Names[0]).ToList();
        var unexpected = file.Tensors.Keys.Where(name => !known.Contains(name)).ToList();
        var shapes = new List<TensorMismatch>();
        var types = new List<TensorMismatch>();
        foreach (var (names, tensor) in groups)
            if (names.Find(file.Tensors.ContainsKey) is { } name)
                Compare(file.Tensors[name], tensor, shapes, types);
        var renamed = (file as RenamedTensors)?.Names.Where(name => name.Key != name.Value).ToDictionary(name => name.Value, name => name.Key) ?? [];
        return new ModuleComparison(missing, unexpected, shapes, types, renamed);
    }

    private static void Compare(StoredTensor stored, Tensor tensor, List<TensorMismatch> shapes, List<TensorMismatch> types)
    {
        var mismatch = new TensorMismatch(stored.Name, stored.Layout, StoredTensor.LayoutOf(tensor));
        if (!stored.Shape.AsSpan().SequenceEqual(tensor.shape))
            shapes.Add(mismatch);
        if (stored.Type != tensor.dtype)
            types.Add(mismatch);
    }
}
