using FabricSharp.Accelerators;
using FabricSharp.Collectives;
using FabricSharp.Collectives.Nccl;
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

    /// <summary>A folder for a time line of the training; see <see cref="DDPOptions.Trace"/>.</summary>
    /// <value>Default null: what the environment variable <c>FABRIC_TRACE</c> says, else nothing is recorded.</value>
    public string? Trace { get; init; }

    /// <summary>The back end of the process group: one of <see cref="ProcessGroup.Backends"/>. <c>mpi</c> needs ranks that <c>mpirun</c> started.</summary>
    /// <value>Default null: <c>nccl</c> for CUDA devices; for CPUs <c>shm</c> on one machine, <c>mpi</c> on several.</value>
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
        var backend = BackendFor(plan);
        if (!ProcessGroup.Backends.Contains(backend))
            throw UnknownName.For("process-group back end", backend, ProcessGroup.Backends);
        if (Timeout <= TimeSpan.Zero)
            throw new ArgumentException($"DDPStrategy(timeout: {Timeout}) must be positive.", "timeout");
        if (backend == "nccl")
            CheckForNccl(plan);
        else
            CheckForProcessor(plan, backend);
    }

    private static void CheckForNccl(FabricPlan plan)
    {
        if (plan.Accelerator is not CudaAccelerator)
            throw new ArgumentException($"The 'nccl' back end averages gradients of CUDA tensors; accelerator='{plan.Accelerator}' needs another one. Use accelerator: \"cuda\", or leave processGroupBackend out.", "accelerator");
        if (NcclEngine.MissingReason is { } reason)
            throw new ArgumentException($"Data-parallel training on GPUs takes the 'nccl' back end, which cannot be used on this machine: {reason}.", "accelerator");
    }

    private void CheckForProcessor(FabricPlan plan, string backend)
    {
        if (plan.Accelerator is not CpuAccelerator)
            throw new ArgumentException($"The '{backend}' back end averages gradients of CPU tensors; accelerator='{plan.Accelerator}' needs another one. Use accelerator: \"cpu\"{(plan.Accelerator is CudaAccelerator ? ", processGroupBackend: \"nccl\"" : "")}, or strategy: \"auto\" with one device.", "accelerator");
        if (plan.NumNodes > 1 && backend == "shm")
            throw new ArgumentException($"The 'shm' back end connects the ranks of one machine, but numNodes={plan.NumNodes}. Use processGroupBackend: \"mpi\" (the default for several machines), or numNodes: 1.", "numNodes");
        if (backend == "mpi" && !plan.Environment.CreatesProcessesExternally)
            throw new ArgumentException(
                $"The 'mpi' back end{(ProcessGroupBackend is null ? $", which numNodes={plan.NumNodes} needs," : "")} connects ranks that mpirun started, but nothing started this process (environment '{plan.Environment.Name}'). " +
                $"Write `mpirun -n {plan.WorldSize} dotnet App.dll`{(plan.NumNodes > 1 ? "." : ", or leave processGroupBackend out: shm starts its ranks itself.")}", "processGroupBackend");
    }

    internal override Strategy CopyForThread() => CopyWith(StartMethod, Decorate);

    /// <summary>The same settings for another rank or another way to start.</summary>
    internal DDPStrategy CopyWith(StartMethod startMethod, Func<ProcessGroup, ProcessGroup>? decorate) => new(
        FindUnusedParameters, StaticGraph, GradientAsBucketView, BroadcastBuffers, BucketCapMb, ProcessGroupBackend, Timeout, startMethod)
    {
        ParametersToIgnore = ParametersToIgnore,
        CommunicationHook = CommunicationHook,
        Trace = Trace,
        Decorate = decorate,
    };

    internal override bool MeetsThroughStore => BackendFor(Plan) != "mpi";

    internal override void Connect(Store store, int rank, int worldSize)
    {
        _group = ProcessGroup.Create(BackendFor(Plan), store, rank, worldSize, Timeout, Plan.Accelerator is CudaAccelerator ? Plan.DeviceIndex : null);
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

    private string BackendFor(FabricPlan plan) => ProcessGroupBackend ?? (plan.Accelerator is CudaAccelerator ? "nccl" : plan.NumNodes > 1 ? "mpi" : "shm");

    private DDPOptions Options() => new()
    {
        FindUnusedParameters = FindUnusedParameters,
        StaticGraph = StaticGraph,
        GradientAsBucketView = GradientAsBucketView,
        BroadcastBuffers = BroadcastBuffers,
        BucketCapMb = BucketCapMb,
        ParametersToIgnore = ParametersToIgnore,
        CommunicationHook = CommunicationHook,
        Trace = Trace,
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
