using System.Diagnostics;
using FabricSharp.Interop.Posix;
using FabricSharp.MultiProcess.Worker.Cases;
using static TorchSharp.torch;

namespace FabricSharp.MultiProcess.Worker.Scenarios;

/// <summary>
/// A training loop in which rank <c>who</c> suffers <c>fault</c>: at <c>place</c> of step <c>step</c>, or, where the process does not do it itself (kill, stop, crash), <c>delay</c> microseconds
/// after that, wherever it is by then. Every rank reports the exception that it ends in, with the seconds from the fault to its end where it is the one.
/// </summary>
internal static class Chaos
{
    public const int Places = 4;
    private const int Steps = 60;
    private const int Kill = 9, Stop = 19;

    /// <summary>Faults that come at a moment of their own: the loop goes on until then.</summary>
    private static readonly string[] Delayed = ["kill", "stop", "crash", "die"];

    /// <summary>Of this process the stop that is under way.</summary>
    private static Thread? _stopping;

    public static void Run(Settings settings)
    {
        using var fabric = settings.Launch();
        var outcome = Outcome(() => Train(fabric, settings));
        Report.Send(new { rank = fabric.GlobalRank, exception = outcome?.GetType().Name, message = outcome?.Message });
        if (outcome is not null)
            Environment.Exit(3);
    }

    /// <summary>Faults that do not end the job: <c>count</c> times a random rank is stopped and continued, or is slow, at a random moment.</summary>
    public static void RunWithPauses(Settings settings)
    {
        var fabric = settings.Launch();
        var count = settings.Number("count", 10);
        var (stops, slows) = (0, 0);
        var outcome = Outcome(() =>
        {
            var (model, optimizer) = SetUp(fabric);
            var common = new Random(settings.Number("seed", 1)); // the same on all ranks
            for (var i = 0; i < count; i++)
            {
                var (who, stop, step, place, delay) = (common.Next(fabric.WorldSize), common.Next(2) == 0, common.Next(3, 12), common.Next(Places), common.Next(1, 20_000));
                _ = stop ? stops++ : slows++;
                var mine = who == fabric.GlobalRank;
                for (var s = 0; s < 15; s++)
                    Step(fabric, model, optimizer, at =>
                    {
                        if (!mine || s != step || at != place)
                            return;
                        if (stop)
                            StopAndContinue(delay);
                        else
                            Rest(TimeSpan.FromMicroseconds(5 * delay));
                    });
            }
        });
        _stopping?.Join();
        Report.Send(new { rank = fabric.GlobalRank, exception = outcome?.GetType().Name, message = outcome?.Message, stops, slows, weight = outcome is null ? fabric.AllReduce(1.0, "sum") : 0 });
    }

    /// <summary>Trains with the fault of the settings.</summary>
    public static void Train(Fabric fabric, Settings settings)
    {
        var (model, optimizer) = SetUp(fabric);
        var steps = Delayed.Contains(settings.Text("fault")) ? int.MaxValue : Steps;
        for (var step = 0; step < steps; step++)
        {
            var now = step;
            Step(fabric, model, optimizer, place =>
            {
                if (now == settings.Number("step", 10) && place == settings.Number("place", 0) && fabric.GlobalRank == settings.Number("who", 1))
                    Inject(fabric, settings);
            });
            if (step % 20 == 19)
                fabric.Barrier();
        }
    }

    public static Exception? Outcome(Action action)
    {
        try
        {
            action();
            return null;
        }
        catch (Exception e)
        {
            return e;
        }
    }

    private static (FabricModule<Tensor, Tensor> Model, FabricOptimizer Optimizer) SetUp(Fabric fabric)
    {
        var net = new Branching { Chosen = -1 };
        return fabric.Setup(net, optim.SGD(net.parameters(), 0.01));
    }

    private static void Step(Fabric fabric, FabricModule<Tensor, Tensor> model, FabricOptimizer optimizer, Action<int> at)
    {
        using var scope = NewDisposeScope();
        at(0);
        optimizer.zero_grad();
        var loss = model.call(ones(2, 8)).mean();
        at(1);
        fabric.Backward(loss);
        at(2);
        optimizer.step();
        at(3);
        fabric.AllReduce(1.0);
    }

    private static void Inject(Fabric fabric, Settings settings)
    {
        var delay = TimeSpan.FromMicroseconds(settings.Number("delay", 0));
        switch (settings.Text("fault"))
        {
            case "throw":
                throw new InvalidDataException("sample 17 is damaged");
            case "mismatch":
                using (var odd = zeros(3 + fabric.GlobalRank))
                    fabric.AllReduce(odd);
                break;
            case "leave":
                Environment.Exit(0);
                break;
            case "slow":
                Rest(TimeSpan.FromMilliseconds(500));
                break;
            case "absent": // a rank that does not come until the others have given up
                Rest(TimeSpan.FromSeconds(settings.Real("timeout", 1)) + TimeSpan.FromMilliseconds(700));
                break;
            case "abort":
                fabric.Strategy.Group!.Abort("the operator gave up");
                throw new OperationCanceledException("the operator gave up");
            case "kill":
                Later(delay, () => PosixApi.Signal(Environment.ProcessId, Kill));
                break;
            case "stop":
                Later(delay, () => PosixApi.Signal(Environment.ProcessId, Stop));
                break;
            case "crash":
                Later(delay, () => Environment.FailFast("injected crash"));
                break;
            case "die": // an unhandled exception on a thread of its own
                Later(delay, () => throw new InvalidDataException("sample 18 is damaged"));
                break;
            case var fault:
                throw new ArgumentException($"Unknown fault '{fault}'.");
        }
    }

    private static Thread Later(TimeSpan delay, Action action)
    {
        var thread = new Thread(() =>
        {
            Rest(delay);
            action();
        }) { IsBackground = true };
        thread.Start();
        return thread;
    }

    /// <summary>Stops this process at a moment of its own; a helper that was started before continues it.</summary>
    private static void StopAndContinue(int delayMicroseconds)
    {
        var process = Environment.ProcessId;
        _stopping?.Join(); // else the helper of one stop would continue the other
        Process.Start("sh", ["-c", $"i=0; while [ $i -lt 2000 ]; do case $(cut -d' ' -f3 /proc/{process}/stat) in T) sleep 0.05; kill -CONT {process}; exit;; esac; sleep 0.005; i=$((i+1)); done"]).Dispose();
        _stopping = Later(TimeSpan.FromMicroseconds(delayMicroseconds), () => PosixApi.Signal(process, Stop));
    }

    private static void Rest(TimeSpan time)
    {
        using var never = new ManualResetEventSlim();
        never.Wait(time);
    }
}
