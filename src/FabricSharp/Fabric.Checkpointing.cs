using System.Runtime.ExceptionServices;
using FabricSharp.Checkpointing;
using static TorchSharp.torch;

namespace FabricSharp;

/// <summary>Saving and loading.</summary>
public sealed partial class Fabric
{
    /// <summary>
    /// Saves <paramref name="state"/> as a checkpoint. Rank 0 writes, all ranks return together, and a failure is thrown on every rank.
    /// Collective.
    /// </summary>
    /// <remarks>
    /// The checkpoint is a folder: tensors as <c>.safetensors</c> files, the rest as <c>state.json</c>, and <c>manifest.json</c> with sizes and
    /// checksums. It is written beside its final name, flushed to the disk and then swapped in: a reader finds the old one or the new one, complete.
    /// </remarks>
    /// <param name="path">The folder to make. A checkpoint or file that is there is replaced; a missing parent folder is made.</param>
    /// <param name="state">
    /// By a name each: modules (parameters and persistent buffers; tied tensors once), optimizers (TorchSharp's, except LBFGS), dense tensors of
    /// float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8 or bool, and values that System.Text.Json can write. What <c>Setup</c>
    /// gave back is saved as its original, so that the checkpoint loads with or without Fabric's wrappers and with any number of ranks.
    /// </param>
    /// <exception cref="ArgumentException">Something cannot be saved, or <paramref name="path"/> is a folder that is no checkpoint.</exception>
    /// <exception cref="CheckpointException">Writing failed on rank 0. What was at <paramref name="path"/> before is unchanged.</exception>
    public void Save(string path, Dictionary<string, object?> state)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(path);
        ArgumentNullException.ThrowIfNull(state);
        RequireLaunched(nameof(Save));
        Together(() =>
        {
            if (IsGlobalZero)
                CheckpointWriter.Write(path, state);
        });
    }

    /// <summary>
    /// Loads a checkpoint into the objects of <paramref name="state"/>. Everything is checked first: when anything does not fit, on any rank,
    /// nothing is changed. Collective: every rank reads the files for itself.
    /// </summary>
    /// <param name="path">
    /// A folder that <see cref="Save"/> made; a <c>.safetensors</c> file, of which each tensor is an entry; or a file of PyTorch or Lightning (<c>.pt</c>, <c>.pth</c>,
    /// <c>.ckpt</c>), of which each key is an entry, and each of a list of optimizers (<c>optimizer_states.0</c>). Nothing in a file is executed; what is neither
    /// tensor nor plain value is refused by name. In files, names of tensors are matched as <c>docs/python-files.md</c> tells.
    /// </param>
    /// <param name="state">
    /// Modules, optimizers and tensors are filled in place: parameters and buffers stay the same objects. Other values are replaced in the
    /// dictionary by the stored one, as the type of the value that was there; null by whatever is stored. <value>Default null: nothing is filled.</value>
    /// </param>
    /// <param name="strict">
    /// True: names in <paramref name="state"/> or in a module that the checkpoint lacks, and tensors in the checkpoint that the module lacks, are errors.
    /// False: they are skipped. Different shapes and element types are errors always. <value>Default true.</value>
    /// </param>
    /// <returns>
    /// The entries that <paramref name="state"/> does not name: tensors (new, the caller's to dispose), modules as <c>Dictionary&lt;string, Tensor&gt;</c>,
    /// optimizers as a dictionary with <c>description</c> (JSON) and <c>tensors</c>, values as <see cref="System.Text.Json.JsonElement"/>.
    /// Of files of PyTorch optimizers, and tensors mixed with values, come as <c>Dictionary&lt;string, object?&gt;</c> and <c>List&lt;object?&gt;</c>.
    /// </returns>
    /// <exception cref="CheckpointException">The checkpoint is missing, corrupt, or does not fit.</exception>
    /// <exception cref="ArgumentException">An object of <paramref name="state"/> cannot be loaded into.</exception>
    public IReadOnlyDictionary<string, object?> Load(string path, Dictionary<string, object?>? state = null, bool strict = true)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(path);
        RequireLaunched(nameof(Load));
        return LoadTogether(() => LoadPlan.ForState(path, state, strict), plan => plan.Apply());
    }

    /// <summary>Loads the values of a module from a file that holds just them. In place; checked first, as in <see cref="Load"/>. Collective.</summary>
    /// <param name="path">
    /// A <c>.safetensors</c> file (of Python as well), a checkpoint with exactly one module, or a file of PyTorch or Lightning that is a state dict or holds exactly one.
    /// </param>
    /// <param name="module">As it is, or as <c>Setup</c> gave it back.</param>
    /// <param name="strict">False skips names that only one side has. <value>Default true.</value></param>
    /// <exception cref="CheckpointException">The file is missing, corrupt, or does not fit.</exception>
    public void LoadRaw(string path, nn.Module module, bool strict = true)
    {
        ArgumentNullException.ThrowIfNull(module);
        LoadRawObject(path, module, strict);
    }

    /// <summary>Loads the state of an optimizer from a file that holds just it. Checked first, as in <see cref="Load"/>. Collective.</summary>
    /// <param name="path">A checkpoint with exactly one optimizer, or the <c>.safetensors</c> file inside it; or a file of PyTorch or Lightning with exactly one.</param>
    /// <param name="optimizer">Of the same type, over parameters of the same shapes in the same order. Of PyTorch's: SGD, Adam, AdamW.</param>
    /// <exception cref="CheckpointException">The file is missing, corrupt, or does not fit.</exception>
    /// <exception cref="ArgumentException">The optimizer's state cannot be reached.</exception>
    public void LoadRaw(string path, optim.Optimizer optimizer)
    {
        ArgumentNullException.ThrowIfNull(optimizer);
        LoadRawObject(path, optimizer, strict: true);
    }

    private void LoadRawObject(string path, object target, bool strict)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(path);
        RequireLaunched(nameof(LoadRaw));
        LoadTogether(() => LoadPlan.ForOne(path, target, strict), plan =>
        {
            plan.ApplyOnly();
            return true;
        });
    }

    /// <summary>No rank begins to change anything before all have found the checkpoint sound, and none goes on before all have loaded.</summary>
    private T LoadTogether<T>(Func<LoadPlan> check, Func<LoadPlan, T> apply)
    {
        LoadPlan? plan = null;
        try
        {
            Together(() => plan = check());
            T result = default!;
            Together(() => result = apply(plan!));
            return result;
        }
        finally
        {
            plan?.Dispose();
        }
    }

    /// <summary>Runs <paramref name="work"/> on every rank. When it fails on one, it throws on all: there what happened, elsewhere that it did. Collective.</summary>
    private void Together(Action work)
    {
        Exception? failure = null;
        try
        {
            work();
        }
        catch (Exception e)
        {
            failure = e;
        }

        var failedRank = Strategy.Group is null ? -1 : FirstRankThat(failure is not null);
        if (failedRank >= 0)
            ReportOf(failedRank, failure);
        if (failure is not null)
            ExceptionDispatchInfo.Throw(failure);
    }

    private int FirstRankThat(bool failed)
    {
        using var own = tensor(failed ? 1L : 0L);
        using var all = AllGather(own);
        return all.data<long>().ToArray().IndexOf(1L);
    }

    private void ReportOf(int failedRank, Exception? failure)
    {
        var isMisuse = Broadcast(failure is ArgumentException, failedRank);
        var message = Broadcast(failure?.Message ?? "", failedRank);
        if (failure is null)
            throw isMisuse ? new ArgumentException($"Rank {failedRank}: {message}") : new CheckpointException($"Rank {failedRank}: {message}");
    }
}
