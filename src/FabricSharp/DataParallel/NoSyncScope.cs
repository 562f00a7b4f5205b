namespace FabricSharp.DataParallel;

/// <summary>What can be told to let gradients add up on each rank.</summary>
internal interface ISynchronized
{
    /// <summary>Whether forward passes are to be followed by a reduction.</summary>
    bool RequiresSynchronization { get; set; }
}

/// <summary>Inside it forward passes are not followed by a reduction; scopes may be nested.</summary>
internal sealed class NoSyncScope : IDisposable
{
    private readonly ISynchronized _target;
    private readonly bool _before;

    /// <param name="target">What is told.</param>
    /// <param name="enabled">False makes the scope do nothing.</param>
    public NoSyncScope(ISynchronized target, bool enabled = true)
    {
        _target = target;
        _before = target.RequiresSynchronization;
        if (enabled)
            target.RequiresSynchronization = false;
    }

    public void Dispose() => _target.RequiresSynchronization = _before;
}
