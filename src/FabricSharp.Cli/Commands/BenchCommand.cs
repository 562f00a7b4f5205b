using System.ComponentModel;
using System.CommandLine;
using System.CommandLine.Parsing;
using System.Diagnostics;
using FabricSharp.Cli.Benchmarks;
using FabricSharp.Cli.Checks;
using FabricSharp.Collectives;

namespace FabricSharp.Cli.Commands;

/// <summary><c>fabric bench</c>: how fast ranks of this machine exchange data.</summary>
internal static class BenchCommand
{
    private const int Failed = 1;
    private const int NoLibTorch = 2;

    public static Command Create() => new("bench", "Measure how fast ranks exchange data.") { CreateAllReduce() };

    private static Command CreateAllReduce()
    {
        var program = new Argument<string>("program") { Description = "Your program's .dll, executable or folder, built with TorchSharp-cpu or TorchSharp-cuda: its libtorch is used, for the tool has none. The program itself is not run.", DefaultValueFactory = _ => "." };
        var ranks = new Option<int?>("--ranks") { HelpName = "n", Description = "Processes, 2 or more. Default: those that mpirun, srun or torchrun started, else 2 (nccl: one for each GPU)." };
        var least = Size("--min-bytes", "1K", "The smallest size; K, M and G are factors of 1024.");
        var most = Size("--max-bytes", "64M", "The largest size.");
        var factor = new Option<int>("--factor") { HelpName = "n", Description = "Each size is so many times the one before, 2 or more.", DefaultValueFactory = _ => 4 };
        var iterations = new Option<int>("--iterations") { HelpName = "n", Description = "Timed calls of each size.", DefaultValueFactory = _ => 20 };
        var types = Names("--dtype", "float32", ElementTypes.Names, "Element types, separated by commas");
        var operations = Names("--op", "sum", ReduceOperations.Names, "Reductions, separated by commas");
        var backend = new Option<string>("--backend") { HelpName = "name", Description = "The back end of the process group.", DefaultValueFactory = _ => "shm" };
        var json = new Option<bool>("--json") { Description = "One JSON object per line instead of a table." };
        var command = new Command("all-reduce", Help) { program, ranks, least, most, factor, iterations, types, operations, backend, json };
        backend.CompletionSources.Add([.. ProcessGroup.Backends]);
        AtLeast(factor, 2);
        AtLeast(iterations, 1);
        ranks.Validators.Add(result => RequireAtLeast(result, result.GetValueOrDefault<int?>(), 2));
        backend.Validators.Add(result => RequireKnown(result, [result.GetValueOrDefault<string>()], ProcessGroup.Backends));
        command.SetAction(result =>
        {
            var (first, last) = (Bytes(result.GetValue(least)!), Bytes(result.GetValue(most)!));
            if (first > last)
            {
                Console.Error.WriteLine($"fabric bench: --min-bytes {result.GetValue(least)} is more than --max-bytes {result.GetValue(most)}.");
                return Failed;
            }

            return Run(result.GetValue(program)!, new AllReducePlan(
                result.GetValue(ranks),
                result.GetValue(backend)!,
                AllReducePlan.SizesBetween(first, last, result.GetValue(factor)),
                Split(result.GetValue(types)!),
                Split(result.GetValue(operations)!),
                result.GetValue(iterations),
                result.GetValue(json),
                Memcpy.GigabytesPerSecond()));
        });
        return command;
    }

    private const string Help =
        "Time the all-reduce of tensors between ranks that are started as fabric.Launch() starts them, and check the results. Columns: size in bytes, count of elements, type, redop, " +
        "time of a call in microseconds, algbw (size / time), busbw (algbw * 2 (n - 1) / n) in 10^9 bytes per second, #wrong elements on all ranks. Beside it: the bandwidth of memcpy of one core. " +
        "The calls are those of ProcessGroup.AllReduce; the buckets of gradients are faster on shm, because they need no copies.\n\n" +
        "Exit code 0 when all results are right, 1 when one is wrong, a rank failed or the options are wrong, 2 when the program brings no libtorch.\n\n" +
        "Example: fabric bench all-reduce bin/Release/net10.0/App.dll --ranks 2 --max-bytes 16M --dtype float32,bfloat16";

    private static int Run(string program, AllReducePlan plan)
    {
        if (ProgramLibTorch.Find(program) is not { } libTorch)
        {
            Console.Error.WriteLine($"fabric bench: {ProgramLibTorch.LibraryName} lies neither beside {program} nor in its runtimes folder, and the tool has no libtorch of its own. Name a program that was built with a package of TorchSharp for this machine (dotnet add package TorchSharp-cpu): fabric bench all-reduce bin/Release/net10.0/App.dll.");
            return NoLibTorch;
        }

        try
        {
            Console.CancelKeyPress += (_, e) => e.Cancel = true; // the ranks get the signal, too
            using var process = Process.Start(libTorch.StartTool(BenchRankCommand.Name, (plan with { Ranks = plan.Ranks ?? UsualRanks(plan.Backend) }).ToArgument()))!;
            process.WaitForExit();
            return process.ExitCode;
        }
        catch (Win32Exception e)
        {
            Console.Error.WriteLine($"fabric bench: the tool could not be started again: {e.Message} Reinstall it: dotnet tool update --global FabricSharp.Cli.");
            return Failed;
        }
    }

    /// <summary>Null where something else says how many there are.</summary>
    private static int? UsualRanks(string backend) =>
        backend == "nccl" || Environments.EnvironmentRegistry.Detect(Environment.GetEnvironmentVariable).CreatesProcessesExternally ? null : 2;

    private static Option<string> Size(string name, string usual, string description)
    {
        var option = new Option<string>(name) { HelpName = "bytes", Description = description, DefaultValueFactory = _ => usual };
        option.Validators.Add(result =>
        {
            if (result.GetValueOrDefault<string>() is not { } text || !ByteSize.TryParse(text, out _))
                result.AddError($"{name} {result.GetValueOrDefault<string>()}: a size is a number from 1 to 16G, such as 8, 64K, 1M or 2G.");
        });
        return option;
    }

    private static Option<string> Names(string name, string usual, IReadOnlyCollection<string> known, string description)
    {
        var option = new Option<string>(name) { HelpName = "names", Description = $"{description}: {string.Join(", ", known)}.", DefaultValueFactory = _ => usual };
        option.CompletionSources.Add([.. known]);
        option.Validators.Add(result => RequireKnown(result, Split(result.GetValueOrDefault<string>() ?? ""), known));
        return option;
    }

    private static void AtLeast(Option<int> option, int least) => option.Validators.Add(result => RequireAtLeast(result, result.GetValueOrDefault<int>(), least));

    private static void RequireAtLeast(OptionResult result, int? value, int least)
    {
        if (value < least)
            result.AddError($"{result.Option.Name} {value} must be {least} or more.");
    }

    private static void RequireKnown(OptionResult result, IEnumerable<string?> names, IReadOnlyCollection<string> known)
    {
        foreach (var name in names.Where(name => name is null || !known.Contains(name)))
            result.AddError($"{result.Option.Name} '{name}' is not known. Available: {string.Join(", ", known)}.");
    }

    private static string[] Split(string names) => names.Split(',', StringSplitOptions.TrimEntries);

    private static long Bytes(string size) => ByteSize.TryParse(size, out var bytes) ? bytes : 0;
}
