namespace FabricSharp.Testing;

/// <summary>Numbers the calls of one rank; gradients are reduced from a thread of the backward pass.</summary>
internal sealed class CallCounter
{
    private int _next = -1;

    public int Next() => Interlocked.Increment(ref _next);
}
