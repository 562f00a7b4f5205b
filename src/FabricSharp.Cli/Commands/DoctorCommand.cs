using System.CommandLine;
using System.Text.Json;
using FabricSharp.Cli.Checks;
using Spectre.Console;

namespace FabricSharp.Cli.Commands;

/// <summary><c>fabric doctor</c>: what this machine offers, and what to do about what is missing.</summary>
internal static class DoctorCommand
{
    public static Command Create()
    {
        var program = new Argument<string?>("program") { Description = "Your program's .dll, executable or folder: the libtorch that it brings is tried, too.", Arity = ArgumentArity.ZeroOrOne };
        var json = new Option<bool>("--json") { Description = "One JSON object per line instead of a table: check, ok, needed, found, fix." };
        var command = new Command("doctor", "Check what this machine offers. Exit code 0 when all that is needed is there, 1 when something is missing.\n\nExample: fabric doctor bin/Release/net10.0/App.dll") { program, json };
        command.SetAction(result => Run(result.GetValue(program), result.GetValue(json)));
        return command;
    }

    private static int Run(string? program, bool json)
    {
        List<Finding> findings = [.. MachineChecks.All(), .. LibTorchProbe.Run(program)];
        if (json)
            findings.ForEach(finding => Console.WriteLine(JsonSerializer.Serialize(new { check = finding.Check, ok = finding.IsOk, needed = finding.IsNeeded, found = finding.Found, fix = finding.Fix })));
        else
            Show(findings);
        return findings.TrueForAll(finding => finding.IsOk || !finding.IsNeeded) ? 0 : 1;
    }

    private static void Show(List<Finding> findings)
    {
        var table = new Table().Border(TableBorder.None).HideHeaders().AddColumns("", "", "");
        foreach (var finding in findings)
            table.AddRow(State(finding), Markup.Escape(finding.Check), Markup.Escape(finding.Fix is null ? finding.Found : $"{finding.Found} {finding.Fix}"));
        AnsiConsole.Write(table);
    }

    private static string State(Finding finding) => (finding.IsOk, finding.IsNeeded) switch
    {
        (true, _) => "[green]ok[/]",
        (false, true) => "[red]missing[/]",
        (false, false) => "[yellow]absent[/]",
    };
}
