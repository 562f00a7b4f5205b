using FabricSharp.Accelerators;
using FabricSharp.Environments;
using FabricSharp.Loggers;
using FabricSharp.Precision;
using FabricSharp.Strategies;

namespace FabricSharp.Configuration;

/// <summary>What the arguments, the environment and the defaults came to. Nothing reads them again later.</summary>
/// <param name="Accelerator">The hardware.</param>
/// <param name="Devices">Device numbers of this machine, one per local rank.</param>
/// <param name="NumNodes">Machines.</param>
/// <param name="Strategy">How ranks share the work.</param>
/// <param name="Environment">Where ranks come from.</param>
internal sealed record FabricPlan(Accelerator Accelerator, IReadOnlyList<int> Devices, int NumNodes, Strategy Strategy, ClusterEnvironment Environment)
{
    public IReadOnlyList<object> Callbacks { get; init; } = [];

    public IReadOnlyList<ILogger> Loggers { get; init; } = [];
    /// <summary>In which element types the models compute.</summary>
    public PrecisionPlugin Precision { get; init; } = new FullPrecision();

    public int LocalWorldSize => Strategy.IsDistributed ? Devices.Count : 1;

    public int WorldSize => Strategy.IsDistributed ? Devices.Count * NumNodes : 1;

    public int LocalRank => Strategy.IsDistributed ? Environment.LocalRank : 0;

    public int NodeRank => Strategy.IsDistributed ? Environment.NodeRank : 0;

    public int GlobalRank => Strategy.IsDistributed ? Environment.GlobalRank ?? NodeRank * LocalWorldSize + LocalRank : 0;

    /// <summary>The number of this rank's device.</summary>
    public int DeviceIndex => Devices[Math.Min(LocalRank, Devices.Count - 1)];

    /// <summary>What the user should know before ranks meet.</summary>
    public IEnumerable<string> Warnings => IsAloneAmongMany
        ? Environment.Warnings.Append($"The environment '{Environment.Name}' has {Environment.WorldSize} processes, but each trains alone: strategy='{Strategy.Name}' runs on one device. Use devices: \"auto\" or strategy: \"ddp\" to train together.")
        : Environment.Warnings;

    private bool IsAloneAmongMany => !Strategy.IsDistributed && Environment is not LocalEnvironment && Environment is { CreatesProcessesExternally: true, WorldSize: > 1 };
}
