using TorchSharp;

namespace FabricSharp.Collectives.SharedMemory;

/// <summary>The user's view of the last of a chain of operations, with what must happen and be kept until it is over.</summary>
internal sealed class SharedMemoryWork(SharedMemoryChannel channel, SharedMemoryOperation last, torch.Tensor? kept = null, Action<bool>? atEnd = null) : Work
{
    private readonly Lock _gate = new();
    private Action<bool>? _atEnd = atEnd;
    private torch.Tensor? _kept = kept;

    public override bool IsCompleted
    {
        get
        {
            channel.Progress();
            if (!last.IsCompleted)
                return false;
            End();
            return true;
        }
    }

    public override Exception? Exception => last.IsCompleted ? last.Failure : null;

    public override void Wait(TimeSpan? timeout = null)
    {
        try
        {
            channel.Wait(last, timeout ?? channel.Timeout);
        }
        finally
        {
            End();
        }
    }

    /// <summary>Runs the ending once, after the last operation; before, its memory is still in use.</summary>
    private void End()
    {
        if (!last.IsCompleted)
            return;
        lock (_gate)
        {
            var atEnd = _atEnd;
            _atEnd = null;
            atEnd?.Invoke(last.Failure is null);
            _kept = null;
        }

        GC.KeepAlive(_kept);
    }
}
