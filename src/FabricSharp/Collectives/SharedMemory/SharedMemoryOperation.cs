namespace FabricSharp.Collectives.SharedMemory;

/// <summary>One step of a channel: what a rank does at each milestone. All methods run under the channel's lock.</summary>
internal abstract class SharedMemoryOperation : SharedMemoryRequest
{
    public abstract SharedMemoryDescriptor Descriptor { get; }

    /// <summary>Whether the input goes through a staging slot.</summary>
    public virtual bool NeedsStaging => false;

    /// <summary>Whether the input goes through an inline slot.</summary>
    public virtual bool NeedsInline => false;

    /// <summary>Whether the result is there only when every rank has done its share.</summary>
    public virtual bool NeedsEveryShare => false;

    /// <summary>Given by the channel.</summary>
    public long Sequence { get; set; }

    /// <summary>The staging slot, given by the channel when <see cref="NeedsStaging"/>.</summary>
    public int Slot { get; set; }

    /// <summary>Whether this rank has done its share.</summary>
    public bool IsReduced { get; set; }

    /// <summary>Makes this rank's input readable for the others.</summary>
    public virtual void Post(SharedMemoryChannel channel)
    {
    }

    /// <summary>Does this rank's share; every rank has posted.</summary>
    public virtual void Execute(SharedMemoryChannel channel)
    {
    }

    /// <summary>Takes the result; when <see cref="NeedsEveryShare"/>, every rank has done its share.</summary>
    public virtual void Finish(SharedMemoryChannel channel)
    {
    }
}
