using FabricSharp.Collectives;

namespace FabricSharp.Testing;

/// <summary>A <see cref="Fault"/> has happened on this rank.</summary>
public sealed class InjectedFaultException : DistributedException
{
    internal InjectedFaultException(GroupCall call, ProcessGroup group, string what)
        : base($"Rank {group.Rank} {what} in its call {call.Number} ({call.Operation}) because the test asked for it (FabricSharp.Testing.Fault). If no test did, remove Fault.Over from the program.") =>
        Call = call;

    /// <summary>The call that was to be made.</summary>
    public GroupCall Call { get; }
}
