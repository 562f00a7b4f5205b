using System.Text;
using FabricSharp.Collectives;

namespace FabricSharp.MultiProcess.Worker.Scenarios;

/// <summary>Processes that share a file store at <c>path</c>; <c>rank</c> of <c>ranks</c>.</summary>
internal static class FileStores
{
    private const int Additions = 200;

    public static void Run(Settings settings)
    {
        var (rank, ranks) = (settings.Number("rank", 0), settings.Number("ranks", 2));
        using var store = new FileStore(settings.Text("path"), ranks, TimeSpan.FromSeconds(30));
        var seen = new long[Additions];
        for (var i = 0; i < Additions; i++)
        {
            seen[i] = store.Add("counter", 1);
            store.Append("log", [(byte)('0' + rank)]);
            store.Set($"from/{rank}", Encoding.UTF8.GetBytes($"{i}"));
        }

        store.Add("through", 1);
        store.Set($"through/{rank}", []);
        store.Wait([.. Enumerable.Range(0, ranks).Select(other => $"through/{other}")]);
        Report.Send(new
        {
            rank,
            seen,
            counter = store.Add("counter", 0),
            log = Encoding.UTF8.GetString(store.Get("log")),
            last = Enumerable.Range(0, ranks).Select(other => Encoding.UTF8.GetString(store.Get($"from/{other}"))).ToArray(),
        });
    }

    /// <summary>Sets large values until it is killed.</summary>
    public static void WriteForever(Settings settings)
    {
        using var store = new FileStore(settings.Text("path"));
        for (var i = 0L; ; i++)
        {
            var value = new byte[1 << 20];
            Array.Fill(value, (byte)i);
            store.Set("large", value);
            store.Add("written", 1);
            if (i == 3)
                Report.Send(new { rank = 0, process = Environment.ProcessId });
            if (i % 8 == 7)
                store.Delete("large");
        }
    }
}
