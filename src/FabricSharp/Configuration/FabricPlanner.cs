using System.Globalization;
using FabricSharp.Accelerators;
using FabricSharp.Environments;
using FabricSharp.Precision;
using FabricSharp.Strategies;

namespace FabricSharp.Configuration;

/// <summary>
/// Turns Fabric's arguments into one <see cref="FabricPlan"/>. Order: an LT_ variable replaces an argument that was left at its default;
/// an argument that was given wins over a variable that was not set by the command-line tool (LT_CLI_USED=1), with which a
/// different value is an error. The environment is the one among the plugins, else the one that is detected.
/// </summary>
internal static class FabricPlanner
{
    public static FabricPlan Make(
        AcceleratorChoice accelerator,
        StrategyChoice strategy,
        DeviceSelection devices,
        int numNodes,
        Func<string, string?> variable,
        PrecisionChoice? precision = null,
        IEnumerable<object>? plugins = null)
    {
        accelerator = Override(accelerator, accelerator.IsDefault, "LT_ACCELERATOR", "accelerator", text => text, variable);
        strategy = Override(strategy, strategy.IsDefault, "LT_STRATEGY", "strategy", text => text, variable);
        devices = Override(devices, devices.IsAuto, "LT_DEVICES", "devices", text => text, variable);
        numNodes = Override(numNodes, numNodes == 1, "LT_NUM_NODES", "numNodes", ParseNodes, variable);
        precision = Override(precision, precision is null, "LT_PRECISION", "precision", text => (PrecisionChoice?)text, variable);
        if (numNodes < 1)
            throw new ArgumentException($"`numNodes` must be a positive integer, but got {numNodes}.", nameof(numNodes));

        var hardware = accelerator.Accelerator ?? AcceleratorRegistry.Resolve(accelerator.Name ?? "auto");
        var given = PluginSet.From(plugins);
        if (given.Precision is not null && precision is not null)
            throw new ArgumentException($"Received both `precision={precision}` and `plugins={given.Precision.GetType().Name}`. Choose one.", nameof(precision));
        if (given.Precision is not null)
            precision = given.Precision;
        var environment = given.Environment ?? EnvironmentRegistry.Detect(variable);
        var selected = Select(hardware, devices, environment);
        var chosen = strategy.Strategy ?? StrategyRegistry.Resolve(strategy.Name ?? "auto", selected.Count, numNodes);
        var plan = new FabricPlan(hardware, selected, numNodes, chosen, environment)
        {
            Precision = Resolve(precision, hardware.DeviceType, variable),
        };
        Check(plan);
        return plan;
    }

    private static IReadOnlyList<int> Select(Accelerator hardware, DeviceSelection devices, ClusterEnvironment environment)
    {
        if (!environment.CreatesProcessesExternally)
            return hardware.Resolve(devices);
        if (devices.IsAuto && hardware is CpuAccelerator && environment.LocalWorldSize is { } ranks)
            return hardware.Resolve(ranks);
        if (devices.Count > 1 && hardware is not CpuAccelerator && hardware.AutoDeviceCount == 1)
            return [.. Enumerable.Repeat(hardware.Resolve(1)[0], devices.Count.Value)]; // launchers may show each process its own GPU only
        return hardware.Resolve(devices);
    }

    private static T Override<T>(T argument, bool isDefault, string name, string parameter, Func<string, T> parse, Func<string, string?> variable)
    {
        if (variable(name) is not { Length: > 0 } text)
            return argument;
        var value = parse(text);
        if (isDefault || Equals(value, argument))
            return value;
        if (variable("LT_CLI_USED") == "1")
            throw new ArgumentException($"Your code has `Fabric({parameter}={argument}, ...)` but it conflicts with the value `{parameter}={text}` set through the CLI. Remove it either from the CLI or from the Fabric object.", parameter);
        return argument;
    }

    private static PrecisionPlugin Resolve(PrecisionChoice? precision, TorchSharp.DeviceType device, Func<string, string?> variable)
    {
        if (precision is not { } choice)
            return new FullPrecision();
        Action<string> warn = variable("LOCAL_RANK") is null or "0" ? PrecisionNotices.WarnOnce : _ => { };
        return choice.Plugin ?? PrecisionNames.Resolve(choice.Name, device, warn);
    }

    private static int ParseNodes(string text) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var nodes) ? nodes : throw new ArgumentException($"LT_NUM_NODES={text} must be a positive integer.", "numNodes");

    private static void Check(FabricPlan plan)
    {
        if (!plan.Strategy.IsDistributed && (plan.Devices.Count > 1 || plan.NumNodes > 1))
            throw new ArgumentException(
                $"strategy='{plan.Strategy.Name}' runs on one device, but devices={plan.Devices.Count} and numNodes={plan.NumNodes} were asked for. Use strategy: \"ddp\", or devices: 1.", "strategy");
        if (plan.Strategy.IsDistributed && plan.Accelerator is MpsAccelerator)
            throw new ArgumentException("Strategies from the DDP family are not supported on the MPS accelerator. Use accelerator: \"cpu\" for several processes, or strategy: \"auto\" with one device.", "strategy");
        if (plan.Strategy.IsDistributed)
            CheckRanks(plan);
        plan.Strategy.Check(plan);
        plan.Precision.Check(plan);
    }

    private static void CheckRanks(FabricPlan plan)
    {
        plan.Environment.Validate(plan.Devices.Count, plan.NumNodes);
        CheckRank(plan, "local rank", plan.LocalRank, plan.LocalWorldSize);
        CheckRank(plan, "node rank", plan.NodeRank, plan.NumNodes);
        CheckRank(plan, "global rank", plan.GlobalRank, plan.WorldSize);
    }

    private static void CheckRank(FabricPlan plan, string kind, int rank, int count)
    {
        if (rank < 0 || rank >= count)
            throw new ArgumentException(
                $"The environment '{plan.Environment.Name}' says {kind} {rank}, which does not fit devices={plan.Devices.Count} and numNodes={plan.NumNodes}: ranks count from 0, so {count - 1} is the largest.", "devices");
    }
}
