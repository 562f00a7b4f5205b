using System.CommandLine;
using FabricSharp.Cli.Report;
using FabricSharp.Diagnostics;

namespace FabricSharp.Cli.Commands;

/// <summary><c>fabric report</c>: makes a page, and a trace for Perfetto, of what the ranks of a run have recorded.</summary>
internal static class ReportCommand
{
    private const int Failed = 1, Misused = 2;

    public static Command Create()
    {
        var directory = new Argument<string>("DIR") { Description = "The folder that FABRIC_TRACE or DDPStrategy.Trace named, or one above it." };
        var output = new Option<string?>("--output", "-o") { HelpName = "page.html", Description = "The page. Default: report.html in DIR." };
        var trace = new Option<string?>("--trace") { HelpName = "trace.json", Description = "Also write a trace that ui.perfetto.dev and chrome://tracing open." };
        var metrics = new Option<string?>("--metrics") { HelpName = "metrics.csv", Description = "Curves of a CsvLogger. Default: the newest metrics.csv in DIR or below." };
        var command = new Command("report", "Show what training steps did: a page that needs nothing else, from the time lines of a run. Exit code 1 for damaged files, 2 for a wrong command.\n\nExamples:\n  FABRIC_TRACE=trace fabric run --devices 2 App.dll && fabric report trace\n  fabric report trace --output page.html --trace trace.json") { directory, output, trace, metrics };
        command.SetAction(result => Run(result.GetValue(directory)!, result.GetValue(output), result.GetValue(trace), result.GetValue(metrics)));
        return command;
    }

    private static int Run(string directory, string? output, string? trace, string? metrics)
    {
        try
        {
            Write(directory, output ?? Path.Combine(directory, "report.html"), trace, metrics);
            return 0;
        }
        catch (Exception e) when (e is ArgumentException or IOException or UnauthorizedAccessException or InvalidDataException)
        {
            Console.Error.WriteLine($"fabric report: {new string([.. e.Message.Select(c => char.IsControl(c) ? ' ' : c)])}"); // a message may quote a stranger's file
            return e is ArgumentException ? Misused : Failed;
        }
    }

    private static void Write(string directory, string output, string? trace, string? metrics)
    {
        var run = RecordedRun.Read(directory);
        var models = ModelTimeline.Of(run);
        if (models.Count == 0)
            throw new InvalidDataException($"The run in '{run.Folder}' has no model.");
        var curves = metrics is null ? MetricsFile.Find(directory) : MetricsFile.Read(metrics);
        ReplacedFile.Write(output, stream => stream.Write(System.Text.Encoding.UTF8.GetBytes(ReportPage.Of(run, models, curves))));
        Console.WriteLine($"{output}: {models[0].Steps.Count} steps of {run.Ranks.Count} ranks{(curves is null ? "" : $", curves of {curves.Path}")}.");
        foreach (var warning in run.Warnings)
            Console.WriteLine(warning);
        foreach (var advice in models.SelectMany(Advisor.For))
            Console.WriteLine($"- {advice.Title}: {advice.Evidence} {advice.Remedy}");
        if (trace is null)
            return;
        ReplacedFile.Write(trace, stream => ChromeTrace.Write(stream, models));
        Console.WriteLine($"{trace}: open it at ui.perfetto.dev or chrome://tracing.");
    }
}
