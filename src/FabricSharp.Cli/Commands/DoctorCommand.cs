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
        var json = new Option<bool>("--json") { Description = "One JSON object per line instead of a table." };
        var command = new Command("doctor", "Check what this machine offers. Exit code 1 when something that is needed is missing.") { json };
        command.SetAction(result => Run(result.GetValue(json)));
        return command;
    }

    private static int Run(bool json)
    {
        var findings = MachineChecks.All().ToList();
        if (json)
            findings.ForEach(finding => Console.WriteLine(JsonSerializer.Serialize(new { check = finding.Check, ok = finding.IsOk, found = finding.Found, fix = finding.Fix })));
        else
            Show(findings);
        return findings.TrueForAll(finding => finding.IsOk) ? 0 : 1;
    }

    private static void Show(List<Finding> findings)
    {
        var table = new Table().Border(TableBorder.None).HideHeaders().AddColumns("", "", "");
        foreach (var finding in findings)
            table.AddRow(
                finding.IsOk ? "[green]ok[/]" : "[red]missing[/]",
                Markup.Escape(finding.Check),
                Markup.Escape(finding.Fix is null ? finding.Found : $"{finding.Found} {finding.Fix}"));
        AnsiConsole.Write(table);
    }
}
