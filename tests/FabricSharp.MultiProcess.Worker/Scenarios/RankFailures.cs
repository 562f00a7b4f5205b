using FabricSharp.MultiProcess.Worker.Cases;
using static TorchSharp.torch;

namespace FabricSharp.MultiProcess.Worker.Scenarios;

/// <summary>Ranks that fail in the middle of training while the others count on them. <c>who</c> is the one that does.</summary>
internal static class RankFailures
{
    /// <summary>Throws in step 5.</summary>
    public static void Throw(Settings settings) => Train(settings, (fabric, step) =>
    {
        if (step == 5 && fabric.GlobalRank == settings.Number("who", 1))
            throw new InvalidDataException("sample 17 is damaged");
    });

    /// <summary>Trains without end; the test kills who it wants.</summary>
    public static void WaitForever(Settings settings) => Train(settings, (fabric, step) =>
    {
        if (step == 5)
            Report.Send(new { rank = fabric.GlobalRank, process = Environment.ProcessId });
    }, steps: int.MaxValue);

    /// <summary>Ends well, but too early for the others.</summary>
    public static void ExitEarly(Settings settings) => Train(settings, (fabric, step) =>
    {
        if (step == 5 && fabric.GlobalRank == settings.Number("who", 1))
            Environment.Exit(settings.Number("code", 0));
    });

    /// <summary>Leaves one step out; with <c>barrier</c>, all meet afterwards.</summary>
    public static void SkipStep(Settings settings)
    {
        var fabric = settings.Launch();
        Report.Outcome(fabric.GlobalRank, () =>
        {
            Steps(fabric, (_, _) => { }, 10, step => step == 5 && fabric.GlobalRank == settings.Number("who", 1));
            if (settings.Flag("barrier"))
                fabric.Barrier();
        });
    }

    /// <summary>One rank does not come to a barrier; the limit is the strategy's.</summary>
    public static void NeverCome(Settings settings)
    {
        var fabric = settings.Launch();
        if (fabric.GlobalRank == settings.Number("who", 1))
        {
            using var never = new ManualResetEvent(false);
            never.WaitOne(TimeSpan.FromSeconds(20));
        }
        else
        {
            Report.Outcome(fabric.GlobalRank, fabric.Barrier);
            Environment.Exit(3);
        }
    }

    private static void Train(Settings settings, Action<Fabric, int> beforeStep, int steps = 20)
    {
        var fabric = settings.Launch();
        Steps(fabric, beforeStep, steps, _ => false);
        Report.Send(new { rank = fabric.GlobalRank, done = true });
    }

    private static void Steps(Fabric fabric, Action<Fabric, int> beforeStep, int steps, Func<int, bool> leaveOut)
    {
        var net = new Branching();
        var (model, optimizer) = fabric.Setup(net, optim.SGD(net.parameters(), 0.01));
        net.Chosen = -1;
        for (var step = 0; step < steps; step++)
        {
            using var scope = NewDisposeScope();
            beforeStep(fabric, step);
            if (leaveOut(step))
                continue;
            optimizer.zero_grad();
            fabric.Backward(model.call(ones(2, 8)).mean());
            optimizer.step();
        }
    }
}
