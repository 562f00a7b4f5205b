using TorchSharp;

namespace FabricSharp.Collectives.SharedMemory;

/// <summary>The user's view of the last of a chain of operations, with the tensors that must be kept until it is over.</summary>
internal sealed class SharedMemoryWork(SharedMemoryChannel channel, SharedMemoryOperation last, torch.Tensor? kept = null, torch.Tensor? alsoKept = null) : Work
{
    private torch.Tensor? _kept = kept, _alsoKept = alsoKept;

    public override bool IsCompleted
    {
        get
        {
            channel.Progress();
            if (!last.IsCompleted)
                return false;
            Release();
            return true;
        }
    }

    public override Exception? Exception => last.IsCompleted ? last.Failure : null;

    public override void Wait(TimeSpan? timeout = null)
    {
        channel.Wait(last, timeout ?? channel.Timeout);
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
