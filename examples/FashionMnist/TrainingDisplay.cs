using System.Diagnostics;
using Spectre.Console;

namespace FabricSharp.Examples.FashionMnist;

/// <summary>Shows how training goes: a bar in a terminal, now and then a line elsewhere, nothing on the other ranks.</summary>
internal sealed class TrainingDisplay
{
    private static readonly TimeSpan LinePause = TimeSpan.FromSeconds(3);

    private readonly Action<int, string> _show;

    private TrainingDisplay(Action<int, string> show) => _show = show;

    public static void Show(bool visible, int totalSteps, Action<TrainingDisplay> body)
    {
        if (!visible)
            body(new TrainingDisplay((_, _) => { }));
        else if (Console.IsOutputRedirected)
            body(new TrainingDisplay(Lines(totalSteps)));
        else
            AnsiConsole.Progress()
                .Columns(new TaskDescriptionColumn { Alignment = Justify.Left }, new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn())
                .Start(context =>
                {
                    var task = context.AddTask("training", maxValue: totalSteps);
                    body(new TrainingDisplay((step, text) =>
                    {
                        task.Description = Markup.Escape(text);
                        task.Value = step;
                    }));
                });
    }

    public void Report(int step, double loss, double accuracy, double samplesPerSecond) =>
        _show(step, $"step {step}: loss {loss:F3}, accuracy {accuracy:P0}, {samplesPerSecond:N0} images/s");

    private static Action<int, string> Lines(int totalSteps)
    {
        var last = Stopwatch.StartNew();
        var first = true;
        return (step, text) =>
        {
            if (!first && last.Elapsed < LinePause && step < totalSteps)
                return;
            first = false;
            last.Restart();
            Console.WriteLine($"{text} (of {totalSteps} steps)");
        };
    }
}
