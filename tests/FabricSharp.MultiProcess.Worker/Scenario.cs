using FabricSharp.MultiProcess.Worker.Scenarios;

namespace FabricSharp.MultiProcess.Worker;

/// <summary>The scenarios by name.</summary>
internal static class Scenario
{
    private static readonly Dictionary<string, Action<Settings>> Known = new()
    {
        ["train"] = Training.Run,
        ["unfinished"] = Unfinished.Run,
        ["models-differ"] = SetupFailures.ModelsDiffer,
        ["options-differ"] = SetupFailures.OptionsDiffer,
        ["buffers"] = Buffers.Run,
        ["precision"] = Precisions.Run,
        ["uneven-inputs"] = UnevenInputs.Run,
        ["reference"] = ReferenceRun.Train,
        ["export-reference"] = ReferenceRun.Export,
        ["record-reference"] = ReferenceRun.Record,
        ["leak"] = Leak.Run,
        ["throw"] = RankFailures.Throw,
        ["wait"] = RankFailures.WaitForever,
        ["exit-early"] = RankFailures.ExitEarly,
        ["skip-step"] = RankFailures.SkipStep,
        ["slow-barrier"] = RankFailures.NeverCome,
        ["echo"] = LaunchFacts.Echo,
        ["launch-twice"] = LaunchFacts.LaunchTwice,
        ["launch-function"] = LaunchFacts.LaunchFunction,
        ["serve-store"] = LaunchFacts.ServeStore,
        ["collectives"] = CollectiveCalls.Run,
        ["conformance"] = CollectiveConformance.Run,
        ["mpi-cases"] = MpiGroups.Cases,
        ["mpi-failure"] = MpiGroups.Failure,
        ["mpi-large"] = MpiGroups.Large,
        ["mpi-join"] = MpiGroups.Join,
        ["log"] = Logging.Run,
        ["whole-batch"] = WholeBatch.Run,
        ["sharded-optimizer"] = ShardedOptimizer.Run,
        ["seeded"] = Seeded.Run,
        ["save-loop"] = SaveLoop.Run,
        ["save-fails"] = SaveLoop.Failing,
        ["resume"] = Resuming.Run,
        ["several-fabrics"] = SeveralFabrics.Run,
        ["file-store"] = FileStores.Run,
        ["file-store-write"] = FileStores.WriteForever,
        ["chaos"] = Chaos.Run,
        ["chaos-threads"] = ChaosThreads.Run,
        ["chaos-pauses"] = Chaos.RunWithPauses,
    };

    public static Action<Settings> Find(string name) =>
        Known.TryGetValue(name, out var scenario) ? scenario : throw new ArgumentException($"Unknown scenario '{name}'. Known: {string.Join(", ", Known.Keys)}.");
}
