using TorchSharp;

namespace FabricSharp.Collectives.SharedMemory;

/// <summary>The user's view of the last of a chain of operations, with what must happen and be kept until it is over.</summary>
internal sealed class SharedMemoryWork(SharedMemoryChannel channel, SharedMemoryOperation last, torch.Tensor? kept = null, Action? atEnd = null) : Work
{
    private readonly Lock _gate = new();
    private Action? _atEnd = atEnd;
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

    /// <summary>Runs the ending once, after the last operation.</summary>
    private void End()
    {
        lock (_gate)
        {
            if (last.Failure is null)
                _atEnd?.Invoke();
            _atEnd = null;
            _kept = null;
        }

        GC.KeepAlive(_kept);
    }
}
