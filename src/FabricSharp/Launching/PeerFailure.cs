using FabricSharp.Collectives;

namespace FabricSharp.Launching;

/// <summary>Of several ranks that end badly, the one that began is to be shown first; the others fail because of it.</summary>
internal static class PeerFailure
{
    /// <summary>How long a rank that ends because of another leaves that one to be shown. The launcher ends it meanwhile.</summary>
    public static readonly TimeSpan TimeToShowTheCause = TimeSpan.FromMilliseconds(700);

    /// <summary>Whether another rank's failure is behind <paramref name="exception"/>, or may be.</summary>
    public static bool Caused(object? exception)
    {
        for (var e = exception as Exception; e is not null; e = e.InnerException)
            if (e is DistributedException || (e is AggregateException many && many.InnerExceptions.Any(Caused)))
                return true;
        return false;
    }

    /// <summary>In a rank that a launcher started: before an unhandled exception is printed, its cause is.</summary>
    public static void LetTheCauseBeShownFirst() => AppDomain.CurrentDomain.UnhandledException += (_, e) =>
    {
        if (!Caused(e.ExceptionObject))
            return;
        using var never = new ManualResetEvent(false);
        never.WaitOne(TimeToShowTheCause);
    };
}
