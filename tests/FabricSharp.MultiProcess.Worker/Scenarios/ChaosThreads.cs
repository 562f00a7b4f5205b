namespace FabricSharp.MultiProcess.Worker.Scenarios;

/// <summary><c>jobs</c> jobs in one process, one after the other, whose ranks are threads: a random fault in each. Starting them costs next to nothing.</summary>
internal static class ChaosThreads
{
    private static readonly string[] CheapFaults = ["throw", "mismatch", "slow", "abort"];

    public static void Run(Settings settings)
    {
        var random = new Random(settings.Number("seed", 1));
        for (var job = 0; job < settings.Number("jobs", 10); job++)
        {
            var ranks = random.Next(2, 5);
            var fault = job % 8 == 7 ? "absent" : CheapFaults[random.Next(CheapFaults.Length)]; // each of those costs the time limit
            var (who, step, place) = (random.Next(ranks), random.Next(1, 50), random.Next(Chaos.Places));
            var own = settings.With(("threads", "true"), ("ranks", $"{ranks}"), ("fault", fault), ("who", $"{who}"), ("step", $"{step}"), ("place", $"{place}"), ("timeout", fault == "absent" ? "1" : "20"));
            var outcomes = new Exception?[ranks];
            var start = System.Diagnostics.Stopwatch.GetTimestamp();
            Chaos.Outcome(() => own.MakeFabric().Launch(fabric =>
            {
                try
                {
                    Chaos.Train(fabric, own);
                }
                catch (Exception e)
                {
                    outcomes[fabric.GlobalRank] = e;
                    throw;
                }
            }));
            Report.Send(new
            {
                rank = job,
                fault,
                who,
                step,
                place,
                seconds = System.Diagnostics.Stopwatch.GetElapsedTime(start).TotalSeconds,
                exceptions = outcomes.Select(e => e?.GetType().Name),
                messages = outcomes.Select(e => e?.Message),
            });
        }
    }
}
