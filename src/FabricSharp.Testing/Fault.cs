using System.Globalization;
using FabricSharp.Collectives;

namespace FabricSharp.Testing;

/// <summary>Something that goes wrong on one rank, at one of its calls on the process group.</summary>
/// <example><code>
/// // rank 1 fails in the third bucket of its training
/// using var faulty = group.Rank == 1 ? Fault.Over(group, Fault.Fail(at: 2, GroupOperation.GradientReduce)) : group;
/// </code></example>
public sealed class Fault
{
    private readonly Action<GroupCall, ProcessGroup> _happen;
    private readonly string _text;

    private Fault(string text, int? at, GroupOperation? operation, Action<GroupCall, ProcessGroup> happen)
    {
        if (at < 0)
            throw new ArgumentOutOfRangeException(nameof(at), at, "Calls are counted from 0.");
        At = at;
        Operation = operation;
        _happen = happen;
        _text = text;
    }

    /// <summary>At which call, counted from 0 among those of <see cref="Operation"/>; null at each.</summary>
    public int? At { get; }

    /// <summary>Which calls are counted; null for all.</summary>
    public GroupOperation? Operation { get; }

    /// <summary>
    /// The rank is late: it waits before the call is made. A delay beyond the group's time-out is how a rank that hangs looks to the others.
    /// </summary>
    /// <param name="by">How long, from zero.</param>
    /// <param name="at">See <see cref="At"/>. <value>Default null: at each call.</value></param>
    /// <param name="operation">See <see cref="Operation"/>. <value>Default null: every one.</value></param>
    public static Fault Delay(TimeSpan by, int? at = null, GroupOperation? operation = null)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(by, TimeSpan.Zero);
        return new Fault($"delay by {by.TotalMilliseconds.ToString("0", CultureInfo.InvariantCulture)} ms", at, operation, (_, _) =>
        {
            using var never = new ManualResetEventSlim();
            never.Wait(by);
        });
    }

    /// <summary>
    /// The call fails, as when a network card does: it throws <see cref="InjectedFaultException"/>, the group is unusable from then on, and the other
    /// ranks get <see cref="PeerFailedException"/>.
    /// </summary>
    /// <param name="at">See <see cref="At"/>.</param>
    /// <param name="operation">See <see cref="Operation"/>. <value>Default null: every one.</value></param>
    public static Fault Fail(int at, GroupOperation? operation = null) => new("fail", at, operation, (call, group) =>
    {
        var failure = new InjectedFaultException(call, group, "fails");
        group.Abort(failure.Message);
        throw failure;
    });

    /// <summary>
    /// The rank leaves the group without a word, as when its program ends early: the call throws <see cref="InjectedFaultException"/>, and the other
    /// ranks find the rank gone.
    /// </summary>
    /// <param name="at">See <see cref="At"/>.</param>
    /// <param name="operation">See <see cref="Operation"/>. <value>Default null: every one.</value></param>
    public static Fault Leave(int at, GroupOperation? operation = null) => new("leave", at, operation, (call, group) =>
    {
        var failure = new InjectedFaultException(call, group, "leaves");
        group.Dispose();
        throw failure;
    });

    /// <summary>Lets faults happen on this rank: in the returned group, in groups that are made of it, and in data-parallel training over it. Local.</summary>
    /// <param name="group">Does the work; is disposed with the returned group.</param>
    /// <param name="faults">What goes wrong; several at one call happen in this order.</param>
    public static ProcessGroup Over(ProcessGroup group, params Fault[] faults)
    {
        ArgumentNullException.ThrowIfNull(group);
        ArgumentNullException.ThrowIfNull(faults);
        var counts = Array.ConvertAll(faults, fault => (Fault: fault, Counter: new CallCounter()));
        return new InterceptedProcessGroup(group, new CallCounter(), (call, inner) =>
        {
            foreach (var (fault, counter) in counts)
                fault.HappenWhenDue(call, inner, counter);
        });
    }

    /// <summary>What happens, and when.</summary>
    public override string ToString() => $"{_text} at {(At is { } number ? $"call {number}" : "each call")} of {Operation?.ToString() ?? "any operation"}";

    private void HappenWhenDue(GroupCall call, ProcessGroup inner, CallCounter counter)
    {
        if (Operation is not null && Operation != call.Operation)
            return;
        var number = counter.Next();
        if (At is null || At == number)
            _happen(call, inner);
    }
}
