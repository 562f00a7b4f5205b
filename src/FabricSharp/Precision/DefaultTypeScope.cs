using static TorchSharp.torch;

namespace FabricSharp.Precision;

/// <summary>
/// Sets the element type that new tensors get. TorchSharp has one for the whole process, so that scopes of several threads may overlap:
/// the last to end brings back what the first found.
/// </summary>
internal sealed class DefaultTypeScope : IDisposable
{
    private static readonly Lock Gate = new();
    private static readonly List<DefaultTypeScope> Open = [];

    /// <summary>What was before the first of <see cref="Open"/>.</summary>
    private static ScalarType _original;

    private readonly int _thread = Environment.CurrentManagedThreadId;
    private readonly ScalarType _type;
    private readonly ScalarType _before;

    public DefaultTypeScope(ScalarType type)
    {
        _type = type;
        lock (Gate)
        {
            _before = OfThisThread();
            if (Open.Count == 0)
                _original = _before;
            Open.Add(this);
            set_default_dtype(type);
        }
    }

    /// <summary>The default type of the calling thread, whatever scopes other threads are in.</summary>
    public static ScalarType Current
    {
        get
        {
            lock (Gate)
                return OfThisThread();
        }
    }

    public void Dispose()
    {
        lock (Gate)
            if (Open.Remove(this))
                set_default_dtype(Open.TrueForAll(IsOfThisThread) ? _before : Open[^1]._type);
    }

    private static ScalarType OfThisThread()
    {
        if (Open.TrueForAll(IsOfThisThread))
            return get_default_dtype(); // also where the user set another one within a scope
        return Open.FindLast(IsOfThisThread)?._type ?? _original;
    }

    private static bool IsOfThisThread(DefaultTypeScope scope) => scope._thread == Environment.CurrentManagedThreadId;
}
