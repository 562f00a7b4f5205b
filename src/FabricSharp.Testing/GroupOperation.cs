namespace FabricSharp.Testing;

/// <summary>What can be called on a process group, as its back end sees it: exchanges of objects are broadcasts and gatherings of bytes there.</summary>
public enum GroupOperation
{
    /// <summary><see cref="Collectives.ProcessGroup.AllReduce"/>.</summary>
    AllReduce,

    /// <summary><see cref="Collectives.ProcessGroup.Broadcast"/>.</summary>
    Broadcast,

    /// <summary><see cref="Collectives.ProcessGroup.Reduce"/>.</summary>
    Reduce,

    /// <summary><see cref="Collectives.ProcessGroup.AllGather"/>.</summary>
    AllGather,

    /// <summary><see cref="Collectives.ProcessGroup.Gather"/>.</summary>
    Gather,

    /// <summary><see cref="Collectives.ProcessGroup.Scatter"/>.</summary>
    Scatter,

    /// <summary><see cref="Collectives.ProcessGroup.ReduceScatter"/>.</summary>
    ReduceScatter,

    /// <summary>Both forms of <c>ProcessGroup.AllToAll</c>.</summary>
    AllToAll,

    /// <summary><see cref="Collectives.ProcessGroup.Send"/>.</summary>
    Send,

    /// <summary><see cref="Collectives.ProcessGroup.Recv"/>.</summary>
    Recv,

    /// <summary><see cref="Collectives.ProcessGroup.Barrier"/>.</summary>
    Barrier,

    /// <summary><see cref="Collectives.ProcessGroup.MonitoredBarrier"/>.</summary>
    MonitoredBarrier,

    /// <summary><see cref="Collectives.ProcessGroup.NewGroup"/>.</summary>
    NewGroup,

    /// <summary>Data-parallel training queues the averaging of a bucket, or of one large gradient, while the backward pass runs.</summary>
    GradientReduce,

    /// <summary>Data-parallel training tells the other ranks at the end of a backward pass which parameters were used.</summary>
    GradientExchange,
}
