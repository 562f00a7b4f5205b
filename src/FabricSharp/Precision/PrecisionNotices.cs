using System.Collections.Concurrent;

namespace FabricSharp.Precision;

/// <summary>Warnings on standard error, each once per process.</summary>
internal static class PrecisionNotices
{
    private static readonly ConcurrentDictionary<string, bool> Given = new();

    public static void WarnOnce(string message)
    {
        if (Given.TryAdd(message, true))
            Console.Error.WriteLine($"FabricSharp: {message}");
    }
}
