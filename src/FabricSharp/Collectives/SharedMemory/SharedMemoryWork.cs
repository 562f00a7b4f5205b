using TorchSharp;

namespace FabricSharp.Collectives.SharedMemory;

/// <summary>The user's view of the last of a chain of requests, with the tensors that must be kept until it is over.</summary>
internal sealed class SharedMemoryWork(SharedMemoryQueue queue, SharedMemoryRequest last, torch.Tensor? kept = null, torch.Tensor? alsoKept = null) : Work
{
    private torch.Tensor? _kept = kept, _alsoKept = alsoKept;

    public override bool IsCompleted
    {
        get
        {
            queue.Progress();
            if (!last.IsCompleted)
                return false;
            Release();
            return true;
        }
    }

    public override Exception? Exception => last.IsCompleted ? last.Failure : null;

    public override void Wait(TimeSpan? timeout = null)
    {
        queue.Wait(last, timeout ?? queue.Timeout);
        Release();
    }

    /// <summary>Lets go of the tensors: a work may be kept long after its end.</summary>
    private void Release()
    {
        GC.KeepAlive(_kept);
        GC.KeepAlive(_alsoKept);
        _kept = _alsoKept = null;
    }
}
