namespace FabricSharp.Collectives.SharedMemory;

/// <summary>Something that was asked of a queue and ends well or badly, once.</summary>
internal abstract class SharedMemoryRequest
{
    private volatile bool _completed;

    public bool IsCompleted => _completed;

    public DistributedException? Failure { get; private set; }

    public void Complete(DistributedException? failure)
    {
        if (_completed)
            return;
        Failure = failure;
        _completed = true;
    }
}
