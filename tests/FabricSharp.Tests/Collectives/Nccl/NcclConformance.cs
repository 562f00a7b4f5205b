namespace FabricSharp.Tests.Collectives.Nccl;

// In these tests "nccl" is the simulated library: see GroupOfThreads.Create.
public sealed class NcclProcessGroupConformance : ProcessGroupConformance
{
    protected override string Backend => "nccl";
}

public sealed class NcclWorkConformance : WorkConformance
{
    protected override string Backend => "nccl";
}

public sealed class NcclFailureConformance : GroupFailureConformance
{
    protected override string Backend => "nccl";
}

public sealed class NcclCollectiveConformance : CollectiveConformance
{
    protected override string Backend => "nccl";
}
