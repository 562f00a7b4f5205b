using System.Collections;
using FabricSharp.Collectives;
using FabricSharp.Collectives.Devices;
using FabricSharp.Interop.LibTorch;
using FabricSharp.Tracing;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>
/// Averages the gradients of one model over the ranks while the backward pass runs, and copes with parameters that take no part in it.
/// See docs/design/reducer.md. Not thread-safe: one backward pass of a model at a time, as in PyTorch.
/// </summary>
internal sealed partial class GradientReducer : IGradientHookTarget, ISynchronized, IDisposable
{
    /// <summary>From this size on a gradient is averaged where it was born, in an operation of its own; copying it would cost more than the operation.</summary>
    private const long SmallestPooledGradient = 64 * 1024;

    private const int PassesBeforeAdvice = 100;

    private readonly nn.Module _module;
    private readonly ProcessGroup _group;
    private readonly DDPOptions _options;
    private readonly ParameterSlot[] _slots;
    private readonly HashSet<IntPtr> _identities;
    private readonly IReadOnlyList<(string Name, Tensor Buffer)> _buffers;
    private readonly GradientChannel _channel;
    private readonly GradientAccessor _accessor;
    private readonly UnusedParameterCounter _unused;
    private readonly ReplicaSynchronizer _replicas;
    private readonly StepClock _clock = new();
    private readonly double _scale;

    /// <summary>Whether gradients are seen as they become ready; if not, <see cref="AfterBackward"/> looks for them.</summary>
    private readonly bool _usesHooks;

    /// <summary>A parameter whose hook is gone; null where all are there.</summary>
    private volatile ParameterSlot? _unhooked;

    /// <summary>Parameters that were not to be trained at set-up, and are not averaged.</summary>
    private readonly List<(string Name, Parameter Parameter)> _frozen;

    private List<GradientBucket> _buckets = [];

    /// <summary>The buckets' pieces, in the order in which they are launched.</summary>
    private GradientPiece[] _pieces = [];

    /// <summary>Where large gradients live; null where gradients are no views of communicated memory, or none is large.</summary>
    private GradientPool? _pool;

    /// <summary>Parameters that some rank did not use in some pass; they travel in buckets of their own.</summary>
    private readonly BitArray _everUnused;

    /// <summary>Parameters whose gradient is in its bucket in this pass, in order of arrival.</summary>
    private readonly List<int> _arrivals = [];

    /// <summary>Synchronising forward passes so far, and of them those that a backward pass or an exchange followed.</summary>
    private long _forwardPasses;

    /// <summary>Number of the current backward pass, from 0.</summary>
    private long _pass;

    /// <summary>Backward passes that have averaged something.</summary>
    private long _passes;

    /// <summary>Whether backward passes are to be synchronised: what the last forward pass said.</summary>
    private bool _synchronizes;

    /// <summary>Whether a synchronising forward pass has not been followed by a reduction yet.</summary>
    private bool _awaitsBackward;

    /// <summary>Whether a backward pass has begun on this rank and is not finished.</summary>
    private bool _passActive;

    /// <summary>Pieces launched in this pass.</summary>
    private int _launched;

    /// <summary>Why training cannot go on; thrown at the next forward pass or optimizer step.</summary>
    private Exception? _failure;
    private bool _disposed;

    /// <summary>Checks that all ranks have the same model, gives them rank 0's values, and hooks the parameters. Collective.</summary>
    public GradientReducer(nn.Module module, ProcessGroup group, DDPOptions options, IReadOnlyList<(string Name, Tensor Buffer)> buffers)
    {
        options.Validate();
        var ignored = new IgnoredParameters(module, buffers, options.ParametersToIgnore);
        _module = module;
        _group = group;
        _options = options;
        _hook = options.CommunicationHook?.ForModel();
        _usesHooks = options.UsesGradientHooks && GradientHooks.IsSupported;
        _buffers = [.. buffers.Where(buffer => !ignored.Contains(buffer.Name))];
        _scale = 1.0 / group.Size;
        var parameters = ParametersOf(module).Where(p => !ignored.Contains(p.Name)).ToList();
        _slots = [.. parameters.Where(p => p.Parameter.requires_grad).Select((p, index) => new ParameterSlot(index, p.Name, p.Parameter))];
        _frozen = [.. parameters.Where(p => !p.Parameter.requires_grad)];
        _identities = [.. _slots.Select(slot => TensorIdentity.Of(slot.Parameter))];
        _everUnused = new BitArray(_slots.Length);
        _unused = new UnusedParameterCounter([.. _slots.Select(slot => slot.Name)]);

        _replicas = new ReplicaSynchronizer(group, parameters, _buffers);
        _replicas.Verify(Settings());
        if (_slots.Length == 0) // on every rank: a rank that threw earlier would leave the others waiting
            throw new InvalidOperationException("DistributedDataParallel is not needed when a module doesn't have any parameter that requires a gradient. Use the module as it is, without `Setup` (`fabric.ToDevice(module)` moves it), or set `requires_grad` of what is to be trained first.");
        _replicas.BroadcastAll(root: 0);
        _channel = CreateChannel(Math.Max(ControlMessage.SizeFor(_slots.Length), _slots.Length * sizeof(int)));
        _accessor = GradientAccessor.Create(_usesHooks, onDevice: _channel.NeedsTensors);
        _trace = BeginTrace();
        LayOut();
        if (_usesHooks)
            foreach (var slot in _slots)
            {
                GradientHooks.Register(slot.Parameter, this, slot.Index);
                slot.IsHooked = true;
            }
    }

    /// <summary>Which parameters went unused so far.</summary>
    public UnusedParameterReport UnusedParameters => _unused.Report();

    /// <summary>The model's name, for messages.</summary>
    public string ModuleName => _module.GetName();

    /// <summary>Bytes of gradients that this rank has sent for averaging so far.</summary>
    public long BytesSent { get; private set; }

    /// <summary>How often the ranks have told each other at the end of a backward pass what they used.</summary>
    public long ControlExchanges { get; private set; }

    /// <summary>Payload of the buckets in launch order, in bytes.</summary>
    public IReadOnlyList<long> BucketSizes => [.. _buckets.Select(bucket => bucket.PayloadBytes)];

    /// <inheritdoc/>
    public bool RequiresSynchronization { get; set; } = true;

    /// <summary>Memory in which gradients are best born; null when there is none.</summary>
    public ITensorMemory? GradientMemory => _pool;

    private GradientReduction Reduction => new(_channel, _pool, _join?.ScaleOf(this) ?? _scale, IsNeeded: _group.Size > 1);

    private bool ToleratesUnused => _options.FindUnusedParameters || _options.StaticGraph;

    private bool UsesViews => _options.GradientAsBucketView && _accessor.CanUseViews && _hook is null;

    /// <summary>Whether <paramref name="parameter"/> is one of those that are averaged.</summary>
    public bool Owns(Parameter parameter) => _identities.Contains(TensorIdentity.Of(parameter));

    /// <summary>To be called before each forward pass of the model. Collective when buffers are broadcast.</summary>
    /// <exception cref="UnfinishedReductionException">The last backward pass left parameters without a gradient.</exception>
    public void BeforeForward()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        ThrowIfFailed();
        if (!is_grad_enabled())
            return;
        if (_passActive)
            FinishPass(PassState.Broken); // the last backward pass threw
        ThrowIfFailed();
        RequireParametersAsAtSetUp();
        SuspectGradients();
        _isBackwardKnown = false;
        _synchronizes = RequiresSynchronization;
        if (!_synchronizes)
            return;
        if (_awaitsBackward)
            LookForReplacedParameters();
        var root = _join?.AnnounceForward(this) ?? 0;
        _forwardPasses++;
        _awaitsBackward = true;
        _hadGradient = !_usesHooks && _slots.Any(HoldsGradient);
        _clock.ForwardBegins();
        _trace?.ForwardBegins();
        BroadcastBuffers(root);
    }

    /// <summary>To be called after each forward pass of the model. Local.</summary>
    public void AfterForward()
    {
        if (!_awaitsBackward)
            return;
        _clock.ForwardEnds();
        _trace?.Mark(StepMoment.ForwardEnd);
    }

    /// <summary>To be called before an optimizer steps on these parameters. Collective where this rank took no part in the last backward pass.</summary>
    /// <exception cref="UnfinishedReductionException">The last backward pass left parameters without a gradient.</exception>
    /// <exception cref="InvalidOperationException">The last backward pass ended in an exception.</exception>
    public void BeforeStep()
    {
        if (_passActive)
            FinishPass(PassState.Broken);
        else if (_awaitsBackward && _failure is null)
            FinishWithoutGradient();
        ThrowIfFailed();
        if (_wasBroken)
            throw BrokenBefore();
    }

    /// <summary>No gradient arrived here: this rank contributes zeros.</summary>
    private void FinishWithoutGradient()
    {
        if (!_usesHooks && !_isBackwardKnown && !_hadGradient && _slots.Any(HoldsGradient))
            Fail(BackwardUnknown());
        SuspectGradients();
        FinishPass(PassState.Regular);
    }

    /// <summary>Without hooks nobody tells of a plain <c>loss.backward()</c>: gradients that it may have added to are not taken for averaged.</summary>
    private void SuspectGradients()
    {
        if (_usesHooks || _isBackwardKnown || _learnedUse is not null)
            return;
        foreach (var slot in _slots)
            slot.HasLocalGradient |= HoldsGradient(slot);
    }

    /// <summary>Whether there is a gradient; a parameter that was disposed has none.</summary>
    private bool HoldsGradient(ParameterSlot slot) => !slot.Parameter.IsInvalid && _accessor.HasGradient(slot);

    public void ThrowIfFailed()
    {
        if (_failure is UnfinishedReductionException unfinished)
            throw new UnfinishedReductionException(unfinished.Message, unfinished.Rank, unfinished.ParameterIndices, unfinished.ParameterNames);
        ThrowIfCommunicationFailed();
    }

    public void ThrowIfCommunicationFailed()
    {
        if (_failure is not null and not UnfinishedReductionException)
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(_failure);
    }

    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        _trace?.Close();
        if (_usesHooks)
            foreach (var slot in _slots.Where(slot => slot.IsHooked && !slot.Parameter.IsInvalid)) // another reducer's hook stays
                GradientHooks.Clear(slot.Parameter);
        _channel.Dispose();
        foreach (var slot in _slots)
            slot.View?.Dispose();
        _buckets.ForEach(bucket => bucket.Dispose());
        _pool?.Dispose();
    }

    private GradientChannel CreateChannel(int exchangeBytes)
    {
        var channel = _group.CreateGradientChannel(_module.GetName(), exchangeBytes);
        return _options.UsesDevicePath && !channel.NeedsTensors
            ? new DeviceGradientChannel(new GroupGradientTransport(_group, channel), _group.TensorDevice, _module.GetName(), exchangeBytes)
            : channel;
    }

    private List<(string Name, string Value)> Settings() =>
    [
        ("findUnusedParameters", _options.FindUnusedParameters.ToString()),
        ("staticGraph", _options.StaticGraph.ToString()),
        ("bucketCapMb", _options.BucketCapMb.ToString("R", System.Globalization.CultureInfo.InvariantCulture)),
        ("firstBucketMb", _options.FirstBucketMb?.ToString("R", System.Globalization.CultureInfo.InvariantCulture) ?? "default"),
        ("communication hook", _hook?.Name ?? "none"),
        ("ignored parameters", string.Join(", ", _options.ParametersToIgnore.Order(StringComparer.Ordinal))),
        ("gradientAsBucketView", _options.GradientAsBucketView.ToString()),
        ("broadcastBuffers", _options.BroadcastBuffers.ToString()),
        ("gradient hooks", _usesHooks ? "available" : "not available"),
        ("trace", _options.TraceFolder is null ? "off" : "on"),
    ];

    private void BroadcastBuffers(int root)
    {
        if (!_options.BroadcastBuffers || _buffers.Count == 0 || _group.Size == 1)
            return;
        using var gradientsOff = no_grad();
        var works = _buffers.Select(buffer => _group.Broadcast(buffer.Buffer, root)).ToList();
        works.ForEach(work => work.Wait());
        _trace?.Mark(StepMoment.BuffersEnd);
    }

    /// <summary>Every parameter with its full dotted name, once.</summary>
    private static List<(string Name, Parameter Parameter)> ParametersOf(nn.Module module) =>
        [.. module.named_parameters().DistinctBy(p => TensorIdentity.Of(p.parameter)).Select(p => (p.name, p.parameter))];
}
