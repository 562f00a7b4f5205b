using FabricSharp.Collectives;

namespace FabricSharp.Testing;

/// <summary>What one rank called on its process group, in order. Members are local and thread-safe.</summary>
/// <example><code>
/// var recording = new GroupRecording();
/// using var recorded = recording.Over(group);
/// recorded.AllReduce(tensor).Wait();
/// // recording.Calls[0].Operation is AllReduce
/// </code></example>
public sealed class GroupRecording
{
    private readonly Lock _gate = new();
    private readonly List<GroupCall> _calls = [];
    private readonly CallCounter _counter = new();
    private readonly Action<GroupCall>? _called;

    /// <summary>Makes an empty recording, for one rank.</summary>
    /// <param name="called">Called before each operation, on the thread that makes the call; for <see cref="GroupOperation.GradientReduce"/> that is
    /// a thread of the backward pass. <value>Default none.</value></param>
    public GroupRecording(Action<GroupCall>? called = null) => _called = called;

    /// <summary>A copy of the calls so far.</summary>
    public IReadOnlyList<GroupCall> Calls
    {
        get
        {
            lock (_gate)
                return [.. _calls];
        }
    }

    /// <summary>Records what is called on the returned group, on groups that are made of it, and by data-parallel training over it.</summary>
    /// <param name="group">Does the work; is disposed with the returned group.</param>
    public ProcessGroup Over(ProcessGroup group)
    {
        ArgumentNullException.ThrowIfNull(group);
        return new InterceptedProcessGroup(group, _counter, (call, _) => Add(call));
    }

    /// <summary>Forgets the calls so far; numbers go on.</summary>
    public void Clear()
    {
        lock (_gate)
            _calls.Clear();
    }

    private void Add(GroupCall call)
    {
        lock (_gate)
            _calls.Add(call);
        _called?.Invoke(call);
    }
}
