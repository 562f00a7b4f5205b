using System.Collections;
using FabricSharp.Collectives;

namespace FabricSharp.DataParallel;

/// <summary>What the ranks find out about each other at the end of a pass, put into words.</summary>
internal sealed partial class GradientReducer
{
    private const int NamesShown = 20;

    /// <summary>Whether the pass can be completed; if not, the reason is kept for the next forward pass or step, on every rank alike.</summary>
    private bool IsAgreed(ControlMessage[] messages)
    {
        _failure = (Exception?)DescribeBroken(messages) ?? (Exception?)DescribeSkipped(messages) ?? DescribeUnfinished(messages) ?? DescribeChangedGraph(messages);
        if (_failure is not null)
            _pool?.StopServing();
        return _failure is null;
    }

    /// <summary>A backward pass that threw on all ranks alike is forgotten; one that threw on some is an error on all.</summary>
    private DistributedException? DescribeBroken(ControlMessage[] messages)
    {
        var broken = RanksWhere(messages, message => message.State.HasFlag(PassState.Broken));
        if (broken.Count == 0)
            return null;
        if (broken.Count == messages.Length)
            return DescribeBrokenUnevenly(messages);
        return new DistributedException(
            $"Rank {_group.Rank}: the backward pass ended in an exception on {Ranks(broken)}, so the gradients of this pass cannot be averaged. " +
            "See the exception there; the model's replicas are still equal, but its reducer has to be set up again.");
    }

    private DistributedException? DescribeBrokenUnevenly(ControlMessage[] messages)
    {
        if (messages.All(message => message.Launched == messages[0].Launched))
            return null;
        return new DistributedException(
            $"Rank {_group.Rank}: the backward pass ended in an exception on every rank, but at different points, so the ranks' gradients cannot be brought into step. " +
            "See the exceptions; the model's replicas are still equal, but its reducer has to be set up again.");
    }

    private DistributedException? DescribeSkipped(ControlMessage[] messages)
    {
        if (messages.All(message => message.ForwardPasses == messages[0].ForwardPasses))
            return null;
        var counts = messages.Select((message, rank) => $"rank {rank}: {message.ForwardPasses}");
        return new DistributedException(
            $"Rank {_group.Rank}: the ranks have run different numbers of forward passes ({string.Join(", ", counts)}). A rank skipped a step or ran an extra one, " +
            "for example an evaluation with gradients enabled on one rank. Use the unwrapped module or torch.no_grad() for what only some ranks do.");
    }

    private UnfinishedReductionException? DescribeUnfinished(ControlMessage[] messages)
    {
        if (ToleratesUnused || messages.All(message => message.State.HasFlag(PassState.Broken)))
            return null;
        var missing = _slots.Where(slot => messages.Any(message => !message.Used[slot.Index])).ToList();
        if (missing.Count == 0)
            return null;
        var lines = missing.Take(NamesShown).Select(slot =>
            $"  {slot.Index}: {slot.Name}, no gradient on {Ranks(RanksWhere(messages, message => !message.Used[slot.Index]))}");
        if (missing.Count > NamesShown)
            lines = lines.Append($"  … and {missing.Count - NamesShown} more");
        return Unfinished(
            "Expected to have finished reduction in the prior iteration before starting a new one. " +
            "This error indicates that your module has parameters that were not used in producing loss.\n" +
            $"Parameters which did not receive grad (seen by rank {_group.Rank} of {_group.Size}):\n{string.Join('\n', lines)}\n" +
            "If that is meant (conditional branches, experts, frozen heads), allow it in one of two ways:\n" +
            "  new Fabric(strategy: \"ddp_find_unused_parameters_true\", …)\n" +
            "  new Fabric(strategy: new DDPStrategy(findUnusedParameters: true), …)\n" +
            "Otherwise make sure that all outputs of forward take part in the loss.",
            missing);
    }

    private UnfinishedReductionException? DescribeChangedGraph(ControlMessage[] messages)
    {
        if (!_options.StaticGraph || messages.All(message => message.State.HasFlag(PassState.Broken)))
            return null;
        _learnedUse ??= [.. messages.Select(message => new BitArray(message.Used))];
        for (var rank = 0; rank < messages.Length; rank++)
        {
            var (learned, now) = (_learnedUse[rank], messages[rank].Used);
            var changed = _slots.Where(slot => learned[slot.Index] != now[slot.Index]).ToList();
            if (changed.Count > 0)
                return ChangedGraph(rank, changed, wasUsed: learned[changed[0].Index]);
        }

        return null;
    }

    private UnfinishedReductionException ChangedGraph(int rank, List<ParameterSlot> changed, bool wasUsed)
    {
        var (before, now) = wasUsed ? ("used", "unused") : ("unused", "used");
        return Unfinished(
            "Expected to have finished reduction in the prior iteration before starting a new one. This error indicates that your training graph has changed in this iteration, " +
            $"e.g., one parameter is {before} in first iteration, but then got {now} in the second iteration. this is not compatible with static_graph set to True.\n" +
            $"On rank {rank}: {string.Join(", ", changed.Take(NamesShown).Select(slot => slot.Name))}. Use findUnusedParameters: true instead of staticGraph: true.",
            changed);
    }

    private UnfinishedReductionException Unfinished(string message, List<ParameterSlot> slots) =>
        new(message, _group.Rank, slots.ConvertAll(slot => slot.Index), slots.ConvertAll(slot => slot.Name));

    private InvalidOperationException MarkedTwice(ParameterSlot slot) =>
        new($"Expected to mark a variable ready only once. Parameter at index {slot.Index} with name {slot.Name} has been marked as ready twice in one backward pass on rank {_group.Rank}: " +
            "it was reached by nested backward passes (recomputation inside backward). Run the nested passes inside NoBackwardSync, or do without recomputation for this parameter.");

    /// <summary>Keeps the first failure of this rank, and tells the others, who would wait for this one.</summary>
    private void Fail(Exception exception)
    {
        _failure ??= exception;
        _pool?.StopServing();
        if (exception is not DistributedException)
            _channel.Abort($"{exception.GetType().Name}: {exception.Message}");
    }

    private static List<int> RanksWhere(ControlMessage[] messages, Func<ControlMessage, bool> condition) =>
        [.. Enumerable.Range(0, messages.Length).Where(rank => condition(messages[rank]))];

    private string Ranks(List<int> ranks) =>
        ranks.Count == _group.Size && ranks.Count > 1 ? "all ranks" : (ranks.Count == 1 ? "rank " : "ranks ") + string.Join(", ", ranks);
}
