using System.Runtime.ExceptionServices;
using FabricSharp.Checkpointing;
using FabricSharp.Data;
using FabricSharp.DataParallel;
using FabricSharp.Precision;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp;

/// <summary>Saving and loading.</summary>
public sealed partial class Fabric
{
    /// <summary>How long <see cref="Dispose"/> waits for a save that is under way.</summary>
    private static readonly TimeSpan DisposeLimit = TimeSpan.FromMinutes(5);

    private PendingSave? _pendingSave;

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
    /// By a name each: modules (parameters and persistent buffers; tied tensors once), optimizers (TorchSharp's, except LBFGS, also shared out by <see cref="ShardOptimizer(IEnumerable{Parameter}, Func{IEnumerable{Parameter}, optim.Optimizer})"/>), dense tensors of
    /// float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8 or bool, and values that System.Text.Json can write. What <c>Setup</c>
    /// gave back is saved as its original, so that the checkpoint loads with or without Fabric's wrappers and with any number of ranks. Further:
    /// TorchSharp's learning-rate schedulers, <see cref="GradScaler"/>, the loaders of <c>SetupDataLoaders</c> (their position),
    /// <see cref="DistributedSampler"/> (its epoch) and <see cref="RandomState"/>; of loaders and random states each rank's own is saved. The same
    /// names on every rank.
    /// </param>
    /// <param name="filter">
    /// By names of <paramref name="state"/>, functions that tell of each tensor of a module, or item of a dictionary, by name and value whether to save it:
    /// <c>new() { ["model"] = (name, value) => name.StartsWith("head") }</c>. They run on rank 0. <value>Default null: everything is saved.</value>
    /// </param>
    /// <param name="keepLast">
    /// Keeps so many checkpoints of the family, this one included, and removes the older ones once this one is complete: the complete checkpoints beside
    /// it whose names differ from its own in the number at the end only, and have a smaller one. <value>Default null: nothing is removed.</value>
    /// </param>
    /// <exception cref="ArgumentException">Something cannot be saved, or <paramref name="path"/> is a folder that is no checkpoint, or has no number that <paramref name="keepLast"/> needs.</exception>
    /// <exception cref="CheckpointException">Writing failed on rank 0, or there is no room. What was at <paramref name="path"/> before is unchanged.</exception>
    public void Save(string path, Dictionary<string, object?> state, Dictionary<string, Func<string, object, bool>>? filter = null, int? keepLast = null)
    {
        RequireLaunched(nameof(Save));
        FinishPendingSave();
        ArgumentNullException.ThrowIfNull(state);
        Consolidate(state);
        var (request, ranks) = Prepare(path, state, filter, keepLast);
        Together(() =>
        {
            if (IsGlobalZero)
                CheckpointWriter.Write(request.Place, request.Entries(ranks), keepLast);
        });
    }

    /// <summary>
    /// Like <see cref="Save"/>, but returns as soon as everything that is to be saved was copied; rank 0 writes the copies on a thread of its own, and
    /// training goes on. At most one save is under way: a further save or a load waits for it first. Collective.
    /// </summary>
    /// <remarks>
    /// The copies take as much of the CPU's memory on rank 0 as the tensors that are saved, until they are written. A process that ends before that
    /// leaves the old checkpoint. <see cref="Dispose"/> waits, at most 5 minutes.
    /// </remarks>
    /// <inheritdoc cref="Save"/>
    /// <returns>What to wait for. It need not be waited for: the next save or load throws what went wrong.</returns>
    public PendingSave SaveAsync(string path, Dictionary<string, object?> state, Dictionary<string, Func<string, object, bool>>? filter = null, int? keepLast = null)
    {
        RequireLaunched(nameof(SaveAsync));
        FinishPendingSave();
        ArgumentNullException.ThrowIfNull(state);
        Consolidate(state);
        var (request, ranks) = Prepare(path, state, filter, keepLast);
        Together(() => _pendingSave = IsGlobalZero
            ? PendingSave.Begin(request.Place, Copies(request.Entries(ranks)), keepLast, FinishSave)
            : PendingSave.OfOtherRank(request.Place, FinishSave));
        return _pendingSave!;
    }

    /// <summary>
    /// Loads a checkpoint into the objects of <paramref name="state"/>. Everything is checked first: when anything does not fit, on any rank,
    /// nothing is changed. Collective: every rank reads the files for itself.
    /// </summary>
    /// <param name="path">
    /// A folder that <see cref="Save"/> made; a <c>.safetensors</c> file, of which each tensor is an entry; or a file of PyTorch or Lightning (<c>.pt</c>, <c>.pth</c>,
    /// <c>.ckpt</c>), of which each key is an entry, and each of a list of optimizers (<c>optimizer_states.0</c>). Nothing in a file is executed; what is neither
    /// tensor nor plain value is refused by name. In files, names of tensors are matched as <c>docs/guides/python-files.md</c> tells.
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
        FinishPendingSave();
        return LoadTogether(() => LoadPlan.ForState(path, state, strict, new RankOf(GlobalRank, WorldSize)), plan =>
        {
            if (IsGlobalZero)
                WarnOnce(plan.Warnings);
            return plan.Apply();
        });
    }

    /// <summary>Loads the values of a module from a file that holds just them. In place; checked first, as in <see cref="Load"/>. Collective.</summary>
    /// <param name="path">
    /// A <c>.safetensors</c> file (of Python as well), a checkpoint with exactly one module, or a file of PyTorch or Lightning that is a state dict or holds exactly one.
    /// </param>
    /// <param name="module">As it is, or as <c>Setup</c> gave it back.</param>
    /// <param name="strict">False skips names that only one side has. <value>Default true.</value></param>
    /// <returns>The names that were skipped.</returns>
    /// <exception cref="CheckpointException">The file is missing, corrupt, or does not fit.</exception>
    public IncompatibleKeys LoadRaw(string path, nn.Module module, bool strict = true)
    {
        ArgumentNullException.ThrowIfNull(module);
        return LoadRawObject(path, module, strict)!;
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

    /// <summary>Brings states that lie on several ranks to rank 0, as Lightning Fabric does. Collective where there are any.</summary>
    private static void Consolidate(Dictionary<string, object?> state)
    {
        foreach (var (_, value) in state.OrderBy(entry => entry.Key, StringComparer.Ordinal))
            if (SavedEntry.Plain(value) is ZeroRedundancyOptimizer { ConsolidatedRank: not 0 } optimizer)
                optimizer.ConsolidateState(to: 0);
    }

    private IncompatibleKeys? LoadRawObject(string path, object target, bool strict)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(path);
        RequireLaunched(nameof(LoadRaw));
        FinishPendingSave();
        return LoadTogether(() => LoadPlan.ForOne(path, target, strict), plan =>
        {
            plan.ApplyOnly();
            return plan.Incompatible;
        });
    }

    /// <summary>Checks what was asked for, and gives rank 0 what each rank has of its own.</summary>
    private (SaveRequest Request, IReadOnlyList<byte[]> Ranks) Prepare(
        string path, Dictionary<string, object?> state, Dictionary<string, Func<string, object, bool>>? filter, int? keepLast)
    {
        SaveRequest? request = null;
        byte[] own = [];
        Together(() => (request, own) = (new SaveRequest(path, state, filter, keepLast), RankParts.Of(state)));
        return (request!, Strategy.Group?.AllGatherObject(own) ?? [own]);
    }

    private static List<SavedEntry> Copies(IReadOnlyList<SavedEntry> entries)
    {
        var copies = new List<SavedEntry>(entries.Count);
        try
        {
            foreach (var entry in entries)
                copies.Add(entry.Snapshot());
            return copies;
        }
        catch
        {
            PendingSave.DisposeAll(copies);
            throw;
        }
    }

    private void FinishPendingSave() => _pendingSave?.Wait();

    /// <summary>Tells every rank how the save ended, once. Collective.</summary>
    private void FinishSave(PendingSave save, TimeSpan limit)
    {
        if (save.IsFinished)
            return;
        RequireLaunched(nameof(PendingSave.Wait));
        var isOver = true;
        try
        {
            Together(() => save.FinishLocally(limit));
        }
        catch
        {
            isOver = Broadcast(save.IsCompleted); // else the limit has passed: it can be waited for again
            throw;
        }
        finally
        {
            save.IsFinished = isOver;
            _pendingSave = isOver ? null : save;
        }
    }

    /// <summary>Without the other ranks, which may have left already.</summary>
    private void EndPendingSave()
    {
        try
        {
            if (_pendingSave is { IsFinished: false } save)
                save.FinishLocally(DisposeLimit);
        }
        catch (Exception e)
        {
            Console.Error.WriteLine($"FabricSharp: rank {GlobalRank}: {e.Message}");
        }
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
        var all = Strategy.Group!.AllGatherObject(failed);
        return Enumerable.Range(0, all.Count).FirstOrDefault(rank => all[rank], -1);
    }

    private void ReportOf(int failedRank, Exception? failure)
    {
        var isMisuse = Broadcast(failure is ArgumentException, failedRank);
        var message = Broadcast(failure?.Message ?? "", failedRank);
        if (failure is null)
            throw isMisuse ? new ArgumentException($"Rank {failedRank}: {message}") : new CheckpointException($"Rank {failedRank}: {message}");
    }
}
