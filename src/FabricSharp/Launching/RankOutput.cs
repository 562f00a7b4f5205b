namespace FabricSharp.Launching;

/// <summary>Passes the lines that another rank prints on to this process's output, each with the rank in front.</summary>
internal sealed class RankOutput
{
    private static readonly Lock Gate = new();
    private readonly Thread[] _threads;

    public RankOutput(int rank, StreamReader output, StreamReader error)
    {
        _threads = [Start(rank, output, Console.Out, "output"), Start(rank, error, Console.Error, "error")];
    }

    /// <summary>Waits until everything that the rank printed has been shown, at most <paramref name="limit"/>.</summary>
    public void Drain(TimeSpan limit)
    {
        foreach (var thread in _threads)
            thread.Join(limit);
    }

    private static Thread Start(int rank, StreamReader source, TextWriter destination, string kind)
    {
        var thread = new Thread(() => Copy(rank, source, destination)) { IsBackground = true, Name = $"FabricSharp rank {rank} {kind}" };
        thread.Start();
        return thread;
    }

    private static void Copy(int rank, StreamReader source, TextWriter destination)
    {
        try
        {
            while (source.ReadLine() is { } line)
            {
                lock (Gate)
                {
                    destination.WriteLine($"[rank {rank}] {line}");
                    destination.Flush();
                }
            }
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException)
        {
            // the rank, or our own output, is gone: there is nobody to show more to
        }
    }
}
