using FabricSharp.Accelerators;
using FabricSharp.Collectives;
using FabricSharp.Configuration;
using FabricSharp.DataParallel;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Strategies;

/// <summary>
/// Distributed data-parallel training: every rank has a replica of the model and a share of the data; gradients are averaged while the
/// backward pass runs. Names and meanings follow Lightning Fabric's DDPStrategy and PyTorch's DistributedDataParallel.
/// </summary>
public sealed class DDPStrategy : Strategy
{
    private readonly SynchronizedBackward _backward = new();
    private ProcessGroup? _group;

    /// <summary>Makes the strategy; each argument is also a property. The same values on every rank.</summary>
    /// <param name="findUnusedParameters">See <see cref="FindUnusedParameters"/>.</param>
    /// <param name="staticGraph">See <see cref="StaticGraph"/>.</param>
    /// <param name="gradientAsBucketView">See <see cref="GradientAsBucketView"/>.</param>
    /// <param name="broadcastBuffers">See <see cref="BroadcastBuffers"/>.</param>
    /// <param name="bucketCapMb">See <see cref="BucketCapMb"/>.</param>
    /// <param name="processGroupBackend">See <see cref="ProcessGroupBackend"/>.</param>
    /// <param name="timeout">See <see cref="Timeout"/>.</param>
    /// <param name="startMethod">See <see cref="StartMethod"/>.</param>
    public DDPStrategy(
        bool findUnusedParameters = false,
        bool staticGraph = false,
        bool gradientAsBucketView = true,
        bool broadcastBuffers = true,
        double bucketCapMb = 25,
        string? processGroupBackend = null,
        TimeSpan? timeout = null,
        StartMethod startMethod = StartMethod.Popen)
    {
        FindUnusedParameters = findUnusedParameters;
        StaticGraph = staticGraph;
        GradientAsBucketView = gradientAsBucketView;
        BroadcastBuffers = broadcastBuffers;
        BucketCapMb = bucketCapMb;
        ProcessGroupBackend = processGroupBackend;
        Timeout = timeout ?? ProcessGroup.DefaultTimeout;
        StartMethod = startMethod;
    }

    /// <summary>Whether parameters may take no part in a step; see <see cref="DDPOptions.FindUnusedParameters"/>.</summary>
    /// <value>Default false.</value>
    public bool FindUnusedParameters { get; init; }

    /// <summary>Whether the same parameters are used in every step; see <see cref="DDPOptions.StaticGraph"/>.</summary>
    /// <value>Default false.</value>
    public bool StaticGraph { get; init; }

    /// <summary>Whether gradients lie in the memory that is communicated; see <see cref="DDPOptions.GradientAsBucketView"/>.</summary>
    /// <value>Default true.</value>
    public bool GradientAsBucketView { get; init; }

    /// <summary>Whether rank 0's buffers are given to all ranks before each forward pass; see <see cref="DDPOptions.BroadcastBuffers"/>.</summary>
    /// <value>Default true.</value>
    public bool BroadcastBuffers { get; init; }

    /// <summary>Size of buckets in MiB; see <see cref="DDPOptions.BucketCapMb"/>.</summary>
    /// <value>Default 25.</value>
    public double BucketCapMb { get; init; }

    /// <summary>Parameters that each rank keeps to itself; see <see cref="DDPOptions.ParametersToIgnore"/>.</summary>
    /// <value>Default: none.</value>
    public IReadOnlyCollection<string> ParametersToIgnore { get; init; } = [];

    /// <summary>What averages the gradients of a bucket in place of the plain all-reduce; see <see cref="DataParallel.CommunicationHook"/>.</summary>
    /// <value>Default null: the plain all-reduce.</value>
    public CommunicationHook? CommunicationHook { get; init; }

    /// <summary>The back end of the process group: one of <see cref="ProcessGroup.Backends"/>.</summary>
    /// <value>Default null: <c>shm</c>.</value>
    public string? ProcessGroupBackend { get; init; }

    /// <summary>The limit of each wait for other ranks.</summary>
    /// <value>Default 30 minutes.</value>
    public TimeSpan Timeout { get; init; }

    /// <inheritdoc/>
    public override string Name => FindUnusedParameters ? "ddp_find_unused_parameters_true" : "ddp";

    /// <inheritdoc/>
    public override bool IsDistributed => true;

    /// <summary>How ranks come to exist on a machine.</summary>
    /// <value>Default <see cref="StartMethod.Popen"/>.</value>
    public StartMethod StartMethod { get; init; }

    /// <summary>What stands between Fabric and the group, for tests; null for nothing.</summary>
    internal Func<ProcessGroup, ProcessGroup>? Decorate { get; init; }

    internal override StartMethod Starts => StartMethod;

    internal override ProcessGroup? Group => _group;

    internal override void Check(FabricPlan plan)
    {
        Options().Validate();
        var backend = ProcessGroupBackend ?? "shm";
        if (!ProcessGroup.Backends.Contains(backend))
            throw UnknownName.For("process-group back end", backend, ProcessGroup.Backends);
        if (Timeout <= TimeSpan.Zero)
            throw new ArgumentException($"DDPStrategy(timeout: {Timeout}) must be positive.", "timeout");
        if (plan.Accelerator is not CpuAccelerator)
            throw new ArgumentException($"The '{backend}' back end averages gradients of CPU tensors; accelerator='{plan.Accelerator}' needs another one. Use accelerator: \"cpu\", or strategy: \"auto\" with one device.", "accelerator");
        if (plan.NumNodes > 1)
            throw new ArgumentException($"The '{backend}' back end connects the ranks of one machine, but numNodes={plan.NumNodes}. Use numNodes: 1.", "numNodes");
    }

    internal override Strategy CopyForThread() => CopyWith(StartMethod, Decorate);

    /// <summary>The same settings for another rank or another way to start.</summary>
    internal DDPStrategy CopyWith(StartMethod startMethod, Func<ProcessGroup, ProcessGroup>? decorate) => new(
        FindUnusedParameters, StaticGraph, GradientAsBucketView, BroadcastBuffers, BucketCapMb, ProcessGroupBackend, Timeout, startMethod)
    {
        ParametersToIgnore = ParametersToIgnore,
        CommunicationHook = CommunicationHook?.ForAnotherRank(),
        Decorate = decorate,
    };

    internal override void Connect(Store store, int rank, int worldSize)
    {
        _group = ProcessGroup.Create(ProcessGroupBackend ?? "shm", store, rank, worldSize, Timeout);
        _group = Decorate?.Invoke(_group) ?? _group;
    }

    /// <summary>Uses a group that exists, beside another strategy.</summary>
    internal void Share(ProcessGroup group) => _group = group;

    internal override ModuleHandler SetupModule(nn.Module module)
    {
        var reducer = new GradientReducer(module, _group!, Options(), Modules.ModuleTensors.Buffers(module));
        _backward.Add(reducer);
        return new ReplicatedModule(module, reducer, () => _backward.Remove(reducer));
    }

    internal override void Backward(Tensor loss, bool retainGraph) => _backward.Run(loss, retainGraph);

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        _backward.Dispose();
        _group?.Dispose();
    }

    private DDPOptions Options() => new()
    {
        FindUnusedParameters = FindUnusedParameters,
        StaticGraph = StaticGraph,
        GradientAsBucketView = GradientAsBucketView,
        BroadcastBuffers = BroadcastBuffers,
        BucketCapMb = BucketCapMb,
        ParametersToIgnore = ParametersToIgnore,
        CommunicationHook = CommunicationHook,
    };

    /// <summary>A module whose gradients are averaged.</summary>
    private sealed class ReplicatedModule(nn.Module module, GradientReducer reducer, Action forget) : ModuleHandler
    {
        /// <summary>Gradients from before set-up say nothing.</summary>
        private readonly bool _beganWithGradients = HasGradients(module);

        public override bool RequiresSynchronization
        {
            get => reducer.RequiresSynchronization;
            set => reducer.RequiresSynchronization = value;
        }

        public override UnusedParameterReport UnusedParameters => reducer.UnusedParameters;

        public override bool Owns(Parameter parameter) => reducer.Owns(parameter);

        public override GradientReducer? Reducer => reducer;

        public override DDPLoggingData LoggingData() => reducer.LoggingData();

        public override void AfterForward() => reducer.AfterForward();

        protected override void BeforeForward() => reducer.BeforeForward();

        public override void BeforeStep()
        {
            RequireForwardPass();
            reducer.BeforeStep();
        }

        public override void RequireForwardPass()
        {
            if (!HasForwarded && !_beganWithGradients && HasGradients(module))
                throw new InvalidOperationException(
                    $"{module.GetName()} has gradients, but its forward pass ran around the strategy: through the module that was given to `Setup`, not the one that it gave back. They were not averaged, and the ranks' models " +
                    "would drift apart. Write `var (model, optimizer) = fabric.Setup(module, optimizer);` and then `model.call(…)`; for another method than forward, `model.Invoke((MyModule m) => m.Other(…))`.");
        }

        public override void Dispose()
        {
            reducer.Dispose();
            forget();
        }

        private static bool HasGradients(nn.Module module)
        {
            using var scope = NewDisposeScope();
            return module.parameters().Any(parameter => parameter.grad is not null);
        }
    }
}
