using FabricSharp.Collectives;
using FabricSharp.Interop.LibTorch;

namespace FabricSharp.DataParallel;

/// <summary>What the ranks find out about each other at the end of a pass, put into words.</summary>
internal sealed partial class GradientReducer
{
    private const int NamesShown = 20;

    /// <summary>Whether the pass can be completed; if not, the reason is kept for the next forward pass or step, on every rank alike.</summary>
    /// <param name="messages">Of the ranks that take part: null where a rank has joined.</param>
    private bool IsAgreed(ControlMessage?[] messages)
    {
        _failure = (Exception?)DescribeBroken(messages) ?? (Exception?)DescribeSkipped(messages) ?? DescribeUnfinished(messages);
        if (_failure is null)
            return true;
        _pool?.StopServing();
        _trace?.Failed(_failure.Message);
        return false;
    }

    /// <summary>A backward pass that threw on all ranks alike is forgotten; one that threw on some is an error on all.</summary>
    private DistributedException? DescribeBroken(ControlMessage?[] messages)
    {
        var broken = RanksWhere(messages, message => message.State.HasFlag(PassState.Broken));
        if (broken.Count == 0)
            return null;
        if (broken.Count == Active(messages).Count())
            return DescribeBrokenUnevenly(messages);
        return new DistributedException(
            $"Rank {_group.Rank}: the backward pass ended in an exception on {Ranks(broken)}, so the gradients of this pass cannot be averaged. " +
            "See the exception there; the model's replicas are still equal, but its reducer has to be set up again.");
    }

    private DistributedException? DescribeBrokenUnevenly(ControlMessage?[] messages)
    {
        if (Active(messages).Select(message => message.Launched).Distinct().Count() == 1)
            return null;
        return new DistributedException(
            $"Rank {_group.Rank}: the backward pass ended in an exception on every rank, but at different points, so the ranks' gradients cannot be brought into step. " +
            "See the exceptions; the model's replicas are still equal, but its reducer has to be set up again.");
    }

    private DistributedException? DescribeSkipped(ControlMessage?[] messages)
    {
        if (Active(messages).Select(message => message.ForwardPasses).Distinct().Count() <= 1)
            return null;
        var counts = RanksWhere(messages, _ => true).Select(rank => $"rank {rank}: {messages[rank]!.Value.ForwardPasses}");
        return new DistributedException(
            $"Rank {_group.Rank}: the ranks have run different numbers of forward passes ({string.Join(", ", counts)}). A rank skipped a step or ran an extra one, " +
            "for example an evaluation with gradients enabled on one rank. Use the unwrapped module or torch.no_grad() for what only some ranks do.");
    }

    private UnfinishedReductionException? DescribeUnfinished(ControlMessage?[] messages)
    {
        if (ToleratesUnused || Active(messages).All(message => message.State.HasFlag(PassState.Broken)))
            return null;
        var missing = _slots.Where(slot => Active(messages).Any(message => !message.Used[slot.Index])).ToList();
        if (missing.Count == 0)
            return null;
        var lines = missing.Take(NamesShown).Select(slot =>
            $"  {slot.Index}: {slot.Name}, no gradient on {Ranks(RanksWhere(messages, message => !message.Used[slot.Index]))}{ReasonOf(slot)}");
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

    private UnfinishedReductionException Unfinished(string message, List<ParameterSlot> slots) =>
        new(message, _group.Rank, slots.ConvertAll(slot => slot.Index), slots.ConvertAll(slot => slot.Name));

    /// <summary>What on this rank may explain that a parameter gets no gradient.</summary>
    private static string ReasonOf(ParameterSlot slot) =>
        slot.Parameter.IsInvalid ? " (disposed or replaced after set-up)" : slot.Parameter.requires_grad ? "" : " (frozen after set-up: requires_grad is false)";

    private InvalidOperationException MarkedTwice(ParameterSlot slot) =>
        new($"Expected to mark a variable ready only once. Parameter at index {slot.Index} with name {slot.Name} has been marked as ready twice in one backward pass on rank {_group.Rank}: " +
            "it was reached by nested backward passes (recomputation inside backward) more than once. If every step does so, promise it with DDPStrategy(staticGraph: true); " +
            "else run the nested passes inside NoBackwardSync, or do without recomputation for this parameter.");

    private InvalidOperationException BackwardUnknown() =>
        new($"Rank {_group.Rank}: the model {ModuleName} has gradients that were not averaged, because gradient hooks are not available here ({GradientHooks.NotSupportedReason}) and the backward pass ran without the reducer's knowledge. " +
            "Call fabric.Backward(loss), or Backward(loss) of the DistributedDataParallel module, instead of loss.backward().");

    private InvalidOperationException Replaced(ParameterSlot slot) =>
        new($"Rank {_group.Rank}: parameter {slot.Index} '{slot.Name}' of {ModuleName} was replaced or disposed after the model was set up for data-parallel training, so that its gradients would no longer be averaged. " +
            "module.to(…), module.cuda(), module.half() and assigning a new parameter do that. Do not move or convert the module after Setup: convert it before, or let Fabric's accelerator and precision do it.");

    private InvalidOperationException HookedByAnother(ParameterSlot slot) =>
        new($"Rank {_group.Rank}: parameter {slot.Index} '{slot.Name}' of {ModuleName} was set up for data-parallel training once more, as a part of this or another model, so that its gradients are no longer averaged here. " +
            "Models that share parameters have to be set up as one: put them into a module that holds both. Use the model that was set up last, and dispose this one.");

    private InvalidOperationException Unfrozen(string name) =>
        new($"Rank {_group.Rank}: the parameter '{name}' of {ModuleName} was frozen when the model was set up for data-parallel training (requires_grad = false), and is not now. Its gradients would not be averaged, and the ranks' models would drift apart. " +
            "Set the model up with everything trainable that is ever to be trained, and freeze it afterwards (that takes findUnusedParameters: true), or leave the parameter to each rank with ParametersToIgnore.");

    private InvalidOperationException BrokenBefore() =>
        new($"Rank {_group.Rank}: the last backward pass of {ModuleName} ended in an exception on every rank, so its gradients are incomplete and not averaged: a step would let the ranks' models drift apart. " +
            "Leave the step out, take the gradients away (zero_grad), and go on with the next batch.");

    /// <summary>Keeps the first failure of this rank, and tells the others, who would wait for this one.</summary>
    private void Fail(Exception exception)
    {
        _failure ??= exception;
        _pool?.StopServing();
        _trace?.Failed(exception.Message);
        if (exception is not DistributedException)
            _channel.Abort($"{exception.GetType().Name}: {exception.Message}");
    }

    /// <summary>The messages of the ranks that take part.</summary>
    private static IEnumerable<ControlMessage> Active(ControlMessage?[] messages) => messages.OfType<ControlMessage>();

    private static List<int> RanksWhere(ControlMessage?[] messages, Func<ControlMessage, bool> condition) =>
        [.. Enumerable.Range(0, messages.Length).Where(rank => messages[rank] is { } message && condition(message))];

    private string Ranks(List<int> ranks) =>
        ranks.Count == _group.Size && ranks.Count > 1 ? "all ranks" : (ranks.Count == 1 ? "rank " : "ranks ") + string.Join(", ", ranks);
}
