namespace FabricSharp.Collectives.Control;

/// <summary>What travels between a rank and the hub.</summary>
internal enum ControlFrame : byte
{
    /// <summary>To the hub, once: secret, rank.</summary>
    Hello = 1,

    /// <summary>To the hub: channel, number, whether bytes are wanted, what is called, bytes for the others.</summary>
    Call,

    /// <summary>From the hub: all ranks have called alike. Channel, number, whether bytes were wanted, every rank's bytes.</summary>
    Answer,

    /// <summary>From the hub: channel, number, what each rank called.</summary>
    Mismatch,

    /// <summary>To the hub: a message that is to be sent or received. Number, outgoing, peer, tag, elements, type.</summary>
    Message,

    /// <summary>From the hub: the message of that number has found its partner.</summary>
    Go,

    /// <summary>From the hub: sender, receiver, tag, elements and type of either side, which differ.</summary>
    Refused,

    /// <summary>To the hub: who has not called yet? Query, channel, number.</summary>
    Query,

    /// <summary>From the hub: query, ranks.</summary>
    Missing,

    /// <summary>To the hub: this rank has waited for a while. Channel (0 for a message), number, what for.</summary>
    Waiting,

    /// <summary>To the hub: the wait is over.</summary>
    Resumed,

    /// <summary>From the hub: what each rank waits for, in vain.</summary>
    Diverged,

    /// <summary>To the hub: reason.</summary>
    Abort,

    /// <summary>From the hub: rank, reason.</summary>
    Failed,

    /// <summary>To the hub: nothing more will come.</summary>
    Leave,

    /// <summary>From the hub: rank, and the last number that it has called on each channel.</summary>
    Left,
}
