using System.Collections;
using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>Averaging through a communication hook: after the exchange, bucket by bucket, those that some rank used.</summary>
internal sealed partial class GradientReducer
{
    private CommunicationHook? _hook;

    /// <summary>Whether a communication hook averages the gradients.</summary>
    public bool HasCommunicationHook => _hook is not null;

    /// <summary>Averages through <paramref name="hook"/> from now on. Collective.</summary>
    public void Register(CommunicationHook hook)
    {
        ArgumentNullException.ThrowIfNull(hook);
        if (_hook is not null)
            throw new InvalidOperationException("register_comm_hook or register_builtin_comm_hook can only be called once. A hook is registered already: " + _hook.Name + ".");
        if (_forwardPasses > 0)
            throw new InvalidOperationException("A communication hook must be registered before the first forward pass: training has begun with the plain all-reduce.");
        _replicas.Verify([("communication hook", hook.Name)]);
        _hook = hook.ForModel();
        _trace?.UsesHook(hook.Name);
        _pool?.Dispose();
        LayOut();
    }

    /// <summary>
    /// The buckets are not the gradients here: a parameter that no rank used travels as zeros in a bucket with others, and its gradient must stay as it is.
    /// </summary>
    private void AverageThroughHook(CommunicationHook hook, BitArray usedByAny)
    {
        using var gradientsOff = no_grad();
        var buckets = _buckets.Where(bucket => bucket.Slots.Any(slot => usedByAny[slot.Index])).ToList();
        for (var i = 0; i < buckets.Count; i++)
        {
            foreach (var slot in buckets[i].Slots)
                FillForHook(slot, usedByAny[slot.Index]);
            Run(hook, buckets[i], i, isLast: i == buckets.Count - 1);
        }
    }

    private void FillForHook(ParameterSlot slot, bool isUsed)
    {
        if (!isUsed)
            _accessor.Clear(slot);
        else
            FillMissing(slot);
    }

    private void Run(CommunicationHook hook, GradientBucket bucket, int index, bool isLast)
    {
        using var scope = NewDisposeScope();
        using var flat = bucket.Payload();
        _trace?.Launched(bucket.Pieces[0].Number, bucket.PayloadBytes); // one piece: the bucket has no gaps
        var result = hook.Reduce(new CommunicationBucket(
            index, isLast, flat, Array.ConvertAll(bucket.Slots, slot => slot.View!), Array.ConvertAll(bucket.Slots, slot => slot.Parameter), _group));
        if (result is null || result.numel() != flat.numel() || result.dtype != flat.dtype)
            throw new InvalidOperationException(
                $"The communication hook '{hook.Name}' returned {(result is null ? "nothing" : $"{result.numel()} elements of {result.dtype}")} for a bucket of {flat.numel()} elements of {flat.dtype} on rank {_group.Rank}. " +
                "It has to return the averaged gradients: the bucket's buffer, or a tensor like it.");
        if (!ReferenceEquals(result, flat))
            flat.copy_(result.flatten());
        BytesSent += bucket.PayloadBytes;
        _trace?.Done(bucket.Pieces[0].Number);
    }
}
