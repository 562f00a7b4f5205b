using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using FabricSharp.Precision;
using FabricSharp.Strategies;

namespace FabricSharp.Cli.Commands;

/// <summary>
/// <c>fabric run</c>: starts a program with Lightning's environment variables, so that its Fabric takes accelerator, strategy and devices from
/// the command line. A value that the program sets itself and that differs is an error there.
/// </summary>
internal static class RunCommand
{
    private const int NoProgram = 2;

    public static Command Create()
    {
        var accelerator = new Option<string?>("--accelerator") { HelpName = "name", Description = "The hardware: auto, cpu, cuda, gpu, mps." };
        var strategy = new Option<string?>("--strategy") { HelpName = "name", Description = "How ranks share the work, for example ddp_find_unused_parameters_true." };
        var devices = new Option<string?>("--devices") { HelpName = "devices", Description = "Processes on this machine: a number, auto, or device numbers such as 0,1." };
        var nodes = new Option<int?>("--num-nodes") { HelpName = "n", Description = "The number of machines." };
        var nodeRank = new Option<int?>("--node-rank") { HelpName = "n", Description = "This machine's number, from 0." };
        var address = new Option<string?>("--main-address") { HelpName = "host", Description = "The machine of rank 0." };
        var port = new Option<int?>("--main-port") { HelpName = "port", Description = "The port of the store on it." };
        var precision = new Option<string?>("--precision") { HelpName = "name", Description = $"In which element types the models compute: {string.Join(", ", PrecisionPlugin.Available)}." };
        var program = new Argument<string>("program") { Description = "APP.dll or an executable." };
        var arguments = new Argument<string[]>("arguments") { Description = "What the program gets, untouched (after -- where they look like options of this command).", Arity = ArgumentArity.ZeroOrMore };
        var command = new Command("run", "Start a program on several processes. The exit code is the program's; 2 when there is no such program, 1 when the options are wrong.\n\nExample: fabric run --devices 2 --strategy ddp_find_unused_parameters_true App.dll -- --epochs 3")
        {
            accelerator, strategy, devices, nodes, nodeRank, address, port, precision, program, arguments,
        };
        accelerator.CompletionSources.Add("auto", "cpu", "cuda", "gpu", "mps");
        precision.CompletionSources.Add([.. PrecisionPlugin.Available]);
        strategy.CompletionSources.Add([.. StrategyRegistry.Available]); // not a limit: the program may register its own
        command.SetAction(result => Run(
            result.GetValue(program)!,
            result.GetValue(arguments)!,
            [
                ("LT_CLI_USED", "1"),
                ("LT_ACCELERATOR", result.GetValue(accelerator)),
                ("LT_STRATEGY", result.GetValue(strategy)),
                ("LT_DEVICES", result.GetValue(devices)),
                ("LT_NUM_NODES", Text(result.GetValue(nodes))),
                ("LT_PRECISION", result.GetValue(precision)),
                ("NODE_RANK", Text(result.GetValue(nodeRank))),
                ("MASTER_ADDR", result.GetValue(address)),
                ("MASTER_PORT", Text(result.GetValue(port))),
            ]));
        return command;
    }

    private static int Run(string program, string[] arguments, IReadOnlyList<(string Name, string? Value)> environment)
    {
        if (!File.Exists(program))
        {
            Console.Error.WriteLine($"fabric run: there is no file '{program}'. Build the program first and name its .dll or executable.");
            return NoProgram;
        }

        var isLibrary = Path.GetExtension(program).Equals(".dll", StringComparison.OrdinalIgnoreCase);
        var info = new ProcessStartInfo(isLibrary ? "dotnet" : Path.GetFullPath(program)) { UseShellExecute = false };
        if (isLibrary)
            info.ArgumentList.Add(Path.GetFullPath(program));
        foreach (var argument in arguments)
            info.ArgumentList.Add(argument);
        foreach (var (name, value) in environment)
            if (value is not null)
                info.Environment[name] = value;
        Console.CancelKeyPress += (_, e) => e.Cancel = true; // the program gets the signal, too, and ends its ranks; its exit code is ours
        using var process = Process.Start(info)!;
        process.WaitForExit();
        return process.ExitCode;
    }

    private static string? Text(int? number) => number?.ToString(CultureInfo.InvariantCulture);
}
