using System.Collections.Concurrent;
using FabricSharp.Accelerators;
using FabricSharp.Configuration;
using FabricSharp.Launching;
using FabricSharp.Loggers;
using FabricSharp.Precision;
using FabricSharp.Strategies;
using static TorchSharp.torch;

namespace FabricSharp;

/// <summary>
/// Turns a TorchSharp training loop into one that runs on several processes: make it, <see cref="Launch()"/>, set up the model, the
/// optimizer and the data, and call <see cref="Backward"/> instead of <c>loss.backward()</c>. Names and meanings follow Lightning Fabric.
/// </summary>
/// <remarks>
/// Members marked <i>collective</i> are called by every rank in the same order; <i>local</i> ones by any. A Fabric is used by one
/// thread at a time.
/// </remarks>
public sealed partial class Fabric : IDisposable
{
    private static readonly ConcurrentDictionary<string, bool> Warned = new();

    private readonly FabricPlan _plan;

    /// <summary>Null where the loss is not scaled.</summary>
    private readonly ScaledTraining? _scaled;

    private bool _disposed;

    static Fabric() => ParentWatch.StartWhereLaunched();

    /// <summary>
    /// Resolves the arguments, the environment (LT_ACCELERATOR, LT_STRATEGY, LT_DEVICES, LT_NUM_NODES, LT_PRECISION, and the variables of torchrun,
    /// SLURM, LSF, MPI or Kubeflow, which say that ranks exist already) and the defaults into one plan. Starts nothing. Local.
    /// </summary>
    /// <param name="accelerator">The hardware: <c>"auto"</c>, <c>"cpu"</c>, <c>"cuda"</c>, <c>"gpu"</c>, <c>"mps"</c> or an object.</param>
    /// <param name="strategy">How ranks share the work: a name of <see cref="StrategyRegistry.Available"/> or an object, such as
    /// <c>"ddp_find_unused_parameters_true"</c> or <c>new DDPStrategy(findUnusedParameters: true)</c>.</param>
    /// <param name="devices">Devices per machine, so the number of ranks there: <c>"auto"</c>, <c>2</c>, <c>"0,1"</c>, <c>new[] { 0, 1 }</c>.</param>
    /// <param name="numNodes">The number of machines. <value>Default 1.</value></param>
    /// <param name="precision">In which element types models are kept and compute: a name of <see cref="PrecisionPlugin.Available"/> such as
    /// <c>"bf16-mixed"</c>, a number of bits, or an object. <value>Default <c>"32-true"</c>.</value></param>
    /// <param name="plugins">Parts to be used in place of those that Fabric chooses: at most one <see cref="Environments.ClusterEnvironment"/>
    /// and one <see cref="PrecisionPlugin"/>, the latter in place of <paramref name="precision"/>. <value>Default none.</value></param>
    /// <param name="callbacks">Objects whose methods <see cref="Call"/> calls, in this order. <value>Default none.</value></param>
    /// <param name="loggers">Where <see cref="Log"/> writes. <value>Default none.</value></param>
    /// <exception cref="ArgumentException">A value is unknown, impossible here, or contradicts another; the message names the accepted ones.</exception>
    public Fabric(
        AcceleratorChoice accelerator = default,
        StrategyChoice strategy = default,
        DeviceSelection devices = default,
        int numNodes = 1,
        PrecisionChoice? precision = null,
        IEnumerable<object>? plugins = null,
        IEnumerable<object>? callbacks = null,
        IEnumerable<ILogger>? loggers = null)
        : this(FabricPlanner.Make(accelerator, strategy, devices, numNodes, Environment.GetEnvironmentVariable, precision, plugins) with { Callbacks = [.. callbacks ?? []], Loggers = [.. loggers ?? []] })
    {
        Strategy.Attach(_plan);
        if (IsGlobalZero)
            WarnOnce(_plan.Warnings);
        foreach (var logger in _plan.Loggers.OfType<FileLogger>())
            logger.BindTo(GlobalRank);
    }

    internal Fabric(FabricPlan plan)
    {
        _plan = plan;
        _scaled = plan.Precision.Scaler is { IsEnabled: true } scaler ? new ScaledTraining(scaler) : null;
        Device = plan.Accelerator.DeviceAt(plan.DeviceIndex);
    }

    /// <summary>A Fabric for a rank that is a thread.</summary>
    internal static Fabric ForThread(FabricPlan plan)
    {
        plan.Strategy.Attach(plan);
        LoggingRank.EnterThread(plan.GlobalRank);
        return new Fabric(plan);
    }

    /// <summary>This rank's device.</summary>
    public Device Device { get; }

    /// <summary>The hardware.</summary>
    public Accelerator Accelerator => _plan.Accelerator;

    /// <summary>How ranks share the work.</summary>
    public Strategy Strategy => _plan.Strategy;

    /// <summary>In which element types models are kept and compute.</summary>
    public PrecisionPlugin Precision => _plan.Precision;

    /// <summary>This process's number among all, from 0.</summary>
    public int GlobalRank => _plan.GlobalRank;

    /// <summary>This process's number on its machine, from 0.</summary>
    public int LocalRank => _plan.LocalRank;

    /// <summary>This machine's number, from 0.</summary>
    public int NodeRank => _plan.NodeRank;

    /// <summary>The number of processes.</summary>
    public int WorldSize => _plan.WorldSize;

    /// <summary>Whether this is the process that prints, logs and saves for all.</summary>
    public bool IsGlobalZero => GlobalRank == 0;

    /// <summary>Leaves the other ranks. Models that were set up can be used on as plain modules. Local.</summary>
    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        EndPendingSave();
        _handlers.ForEach(handler => handler.Dispose());
        Strategy.Dispose();
        SaveLogs();
    }

    /// <summary>A program that makes several Fabrics shows each warning once.</summary>
    private static void WarnOnce(IEnumerable<string> warnings)
    {
        foreach (var warning in warnings.Where(warning => Warned.TryAdd(warning, true)))
            Console.Error.WriteLine($"FabricSharp: {warning}");
    }

    private void RequireAlive(string member)
    {
        if (_disposed)
            throw new ObjectDisposedException(
                nameof(Fabric), $"Rank {GlobalRank}: `.{member}(…)` was called after this Fabric was disposed: it has left the other ranks. Dispose it at the end of the program, or make a new one: `using var fabric = new Fabric(…);`.");
    }

    private void RequireLaunched(string member)
    {
        RequireAlive(member);
        if (Strategy.IsDistributed && !_launched)
            throw new InvalidOperationException(
                $"To use Fabric with more than one device, you must call `.Launch()` before `.{member}(…)`: write `fabric.Launch();` right after `new Fabric(…)`.");
    }
}
