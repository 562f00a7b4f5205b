using System.Runtime.ExceptionServices;

namespace FabricSharp.Tests.Collectives;

/// <summary>A thread whose end is waited for with a limit, so that a hang is a failed test.</summary>
internal sealed class LimitedThread
{
    public static readonly TimeSpan Limit = TimeSpan.FromSeconds(30);

    private readonly Thread _thread;
    private Exception? _failure;

    private LimitedThread(Action body, string name)
    {
        _thread = new Thread(() => Run(body)) { IsBackground = true, Name = name };
        _thread.Start();
    }

    public bool IsAlive => _thread.IsAlive;

    public static LimitedThread Start(Action body, string name = "test thread") => new(body, name);

    /// <summary>Waits for the end; returns what was thrown.</summary>
    public Exception? End()
    {
        if (!_thread.Join(Limit))
            throw new TimeoutException($"{_thread.Name} did not end within {Limit.TotalSeconds} s.");
        return _failure;
    }

    /// <summary>Waits for the end; throws what was thrown.</summary>
    public void Join()
    {
        if (End() is { } failure)
            ExceptionDispatchInfo.Throw(failure);
    }

    /// <summary>
    /// Gives the thread the time to begin to wait, so that the usual order of events is tested; the other order must work as well.
    /// (A thread that waits inside a system call does not show it.)
    /// </summary>
    public void LetItWait() =>
        SpinWait.SpinUntil(() => !_thread.IsAlive || (_thread.ThreadState & ThreadState.WaitSleepJoin) != 0, TimeSpan.FromMilliseconds(30));

    private void Run(Action body)
    {
        try
        {
            body();
        }
        catch (Exception e)
        {
            _failure = e;
        }
    }
}
