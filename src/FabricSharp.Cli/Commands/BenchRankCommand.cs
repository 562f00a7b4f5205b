using System.CommandLine;
using FabricSharp.Cli.Benchmarks;
using FabricSharp.Collectives;

namespace FabricSharp.Cli.Commands;

/// <summary>A rank of <c>fabric bench</c>, hidden.</summary>
internal static class BenchRankCommand
{
    public const string Name = "bench-rank";

    public static Command Create()
    {
        var plan = new Argument<string>("plan");
        var command = new Command(Name) { plan };
        command.Hidden = true;
        command.SetAction(result => Run(result.GetValue(plan)!));
        return command;
    }

    private static int Run(string plan)
    {
        try
        {
            return AllReduceBenchmark.Run(AllReducePlan.Parse(plan)) == 0 ? 0 : 1;
        }
        catch (Exception e) when (e is ArgumentException or DistributedException or NotSupportedException or InvalidOperationException)
        {
            Console.Error.WriteLine($"fabric bench: {e.Message}");
            return 1;
        }
    }
}
