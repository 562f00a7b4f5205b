using TorchSharp;

namespace FabricSharp.Collectives.Mpi;

/// <summary>Something that was asked of a channel and ends well or badly, once.</summary>
internal abstract class MpiRequest(torch.Tensor? kept, torch.Tensor? alsoKept)
{
    private torch.Tensor? _kept = kept, _alsoKept = alsoKept;
    private volatile bool _completed;

    public bool IsCompleted => _completed;

    public DistributedException? Failure { get; private set; }

    /// <summary>The request as an error shows it.</summary>
    public abstract string Describe(MpiChannel channel);

    /// <summary>Who holds it up.</summary>
    public abstract string DescribeMissing(MpiChannel channel);

    /// <summary>Ends it. One that failed keeps its tensors as long as it lives: MPI may still write to them.</summary>
    public void Complete(DistributedException? failure)
    {
        if (_completed)
            return;
        Failure = failure;
        if (failure is null)
            Release();
        _completed = true;
    }

    private void Release()
    {
        GC.KeepAlive(_kept);
        GC.KeepAlive(_alsoKept);
        _kept = _alsoKept = null;
    }
}
