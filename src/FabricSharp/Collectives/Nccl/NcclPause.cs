namespace FabricSharp.Collectives.Nccl;

/// <summary>What a waiting thread does between two looks at something that no other thread reports: at first it spins and yields, later it sleeps for a millisecond at a time.</summary>
internal struct NcclPause()
{
    private const int LooksBeforeSleeping = 200;

    private SpinWait _spin = new();

    public void Next() => _spin.SpinOnce(LooksBeforeSleeping);
}
