using System.Text.Json;
using FabricSharp.Checkpointing;
using FabricSharp.Collectives;
using FabricSharp.Interop.LibTorch;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>
/// An optimizer whose state is spread over the ranks, as PyTorch's ZeroRedundancyOptimizer (ZeRO stage 1): each rank holds the state of its share of the
/// parameters, steps them, and gives them to the others. The result is bitwise that of the inner optimizer over all parameters, with 1/size of its memory.
/// Gradients must be averaged already, as data-parallel training does.
/// </summary>
/// <remarks>
/// Each group's parameters are given out from the largest to the smallest, each to the rank that has the fewest elements so far. Saving with
/// <see cref="Fabric.Save"/> brings the state to rank 0 in the form that the inner optimizer would have: such a checkpoint can be loaded with any number of
/// ranks, with this optimizer or the plain one.
/// </remarks>
/// <example><code>
/// var zero = fabric.ShardOptimizer(net.parameters(), share =&gt; optim.AdamW(share, 1e-3));
/// var (model, optimizer) = fabric.Setup(net, zero);
/// </code></example>
public sealed class ZeroRedundancyOptimizer : optim.Optimizer, IShardedOptimizer
{
    private readonly ProcessGroup? _group;
    private readonly OptimizerHelper _inner;
    private readonly ParameterPartition _partition;
    private readonly List<ParamGroup> _wholeGroups = [];
    private readonly List<(Parameter Parameter, int Owner)> _parameters = [];
    private StateConsolidation? _consolidated;

    /// <summary>Shares one group of parameters out. Collective.</summary>
    /// <param name="parameters">The same parameters in the same order on every rank, no two of them one.</param>
    /// <param name="factory">Makes the inner optimizer from this rank's share, which may be empty; options are the same on every rank.</param>
    /// <param name="group">The ranks. <value>Default null: this one alone.</value></param>
    /// <exception cref="ArgumentException">The ranks' parameters differ (on every rank, with both versions), or the inner optimizer cannot be shared out.</exception>
    public ZeroRedundancyOptimizer(IEnumerable<Parameter> parameters, Func<IEnumerable<Parameter>, optim.Optimizer> factory, ProcessGroup? group = null)
        : this([parameters ?? throw new ArgumentNullException(nameof(parameters))], ForOneGroup(factory), group)
    {
    }

    /// <summary>Shares several groups out. Collective.</summary>
    /// <param name="groups">The parameters of each group; the same on every rank.</param>
    /// <param name="factory">
    /// Makes the inner optimizer from this rank's share of each group, for example
    /// <c>shares =&gt; optim.AdamW([new AdamW.ParamGroup(shares[0], lr: 1e-3), new AdamW.ParamGroup(shares[1], lr: 1e-4)])</c>.
    /// </param>
    /// <param name="group">The ranks. <value>Default null: this one alone.</value></param>
    /// <exception cref="ArgumentException">The ranks' parameters differ (on every rank, with both versions), or the inner optimizer cannot be shared out.</exception>
    public ZeroRedundancyOptimizer(
        IEnumerable<IEnumerable<Parameter>> groups, Func<IReadOnlyList<IReadOnlyList<Parameter>>, optim.Optimizer> factory, ProcessGroup? group = null)
        : base(IntPtr.Zero)
    {
        ArgumentNullException.ThrowIfNull(groups);
        ArgumentNullException.ThrowIfNull(factory);
        _group = group;
        _partition = new ParameterPartition(group?.Size ?? 1);
        var whole = groups.Select(one => one.ToList()).ToList();
        RequireSameParameters(whole);
        var shares = whole.Select(ShareOf).ToList();
        _inner = RequireSharable(factory(shares), shares);
        _wholeGroups.AddRange(whole.Zip(_inner.ParamGroups.Cast<ParamGroup>(), Whole));
    }

    /// <summary>The groups with all their parameters, on every rank. A learning rate that is set here reaches the inner optimizer, so schedulers work; set it on every rank alike.</summary>
    public override IEnumerable<optim.ILearningRateController> ParamGroups => _wholeGroups;

    /// <summary>The optimizer of this rank's share.</summary>
    public optim.Optimizer Optimizer => _inner;

    /// <summary>The rank that has the state of all parameters as it is now; null where none has.</summary>
    public int? ConsolidatedRank { get; private set; }

    OptimizerHelper IShardedOptimizer.Inner => _inner;

    IReadOnlyList<ParamGroup> IShardedOptimizer.WholeGroups => _wholeGroups;

    IReadOnlyList<TorchSharp.Modules.OptimizerState?> IShardedOptimizer.OwnStates => OwnStates();

    private int Rank => _group?.Rank ?? 0;

    private int Size => _group?.Size ?? 1;

    /// <summary>The rank that holds the state of a parameter and steps it. Local.</summary>
    /// <exception cref="ArgumentException">The parameter is not among this optimizer's.</exception>
    public int OwnerOf(Parameter parameter)
    {
        ArgumentNullException.ThrowIfNull(parameter);
        var index = _parameters.FindIndex(one => one.Parameter.Handle == parameter.Handle);
        return index >= 0 ? _parameters[index].Owner : throw new ArgumentException("The parameter is not among those of this optimizer.", nameof(parameter));
    }

    /// <summary>Steps this rank's share, then exchanges the parameters: all ranks have the same bits afterwards. Collective.</summary>
    /// <param name="closure">Re-evaluates the model and returns the loss; called once on every rank, also on one without parameters.</param>
    /// <returns>What the closure returned, or null.</returns>
    /// <exception cref="DistributedException">Another rank failed, diverged or did not come in time.</exception>
    public override Tensor step(Func<Tensor>? closure = null)
    {
        ForgetConsolidated();
        var loss = _inner.step(closure);
        if (_group is { Size: > 1 })
            Exchange(_group);
        return loss;
    }

    /// <summary>Writes zeros to the gradients of all parameters, as TorchSharp's optimizers do; with Fabric's wrapper they are taken away. Local.</summary>
    public override void zero_grad() => zero_grad(set_to_none: false);

    /// <summary>Takes the gradients of all parameters away, or writes zeros to them. Local.</summary>
    /// <param name="set_to_none">True: <c>grad</c> becomes null. False: it is filled with zeros.</param>
    public void zero_grad(bool set_to_none)
    {
        foreach (var (parameter, _) in _parameters)
        {
            using var gradient = parameter.grad;
            if (set_to_none)
                parameter.grad = null;
            else
                gradient?.zero_();
        }
    }

    /// <summary>All parameters, on every rank.</summary>
    public override IEnumerable<Parameter> parameters() => _parameters.Select(one => one.Parameter);

    /// <summary>Shares a further group out. Collective.</summary>
    /// <param name="param_group">Of the inner optimizer's kind; with the same parameters and options on every rank.</param>
    /// <exception cref="ArgumentException">The ranks' parameters differ.</exception>
    public override void add_param_group(ParamGroup param_group)
    {
        ArgumentNullException.ThrowIfNull(param_group);
        var parameters = param_group.Parameters.ToList();
        RequireSameParameters([parameters]);
        ForgetConsolidated();
        var share = Group(param_group.GetType(), ShareOf(parameters), param_group.Options);
        _inner.add_param_group(share);
        _wholeGroups.Add(Whole(parameters, share));
    }

    /// <summary>
    /// Brings the state of all parameters to one rank, which can save it until the next step. <see cref="Fabric.Save"/> does this by itself for rank 0. Collective.
    /// </summary>
    /// <param name="to">The rank. <value>Default 0.</value></param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such rank.</exception>
    /// <exception cref="DistributedException">Another rank failed, diverged or did not come in time.</exception>
    public void ConsolidateState(int to = 0)
    {
        if (to < 0 || to >= Size)
            throw new ArgumentOutOfRangeException(nameof(to), to, $"Ranks go from 0 to {Size - 1}.");
        ForgetConsolidated();
        _consolidated = StateConsolidation.Run(_group, OwnStates(), [.. parameters()], to);
        ConsolidatedRank = to;
    }

    (IReadOnlyList<IReadOnlyDictionary<string, JsonElement>> Fields, IReadOnlyList<(string Name, Tensor Tensor)> Tensors) IShardedOptimizer.ConsolidatedStates()
    {
        if (_consolidated is null && Size == 1)
            ConsolidateState();
        if (_consolidated is null)
            throw new ArgumentException(
                $"Optimizer state has not been consolidated on this rank. Please call `ConsolidateState(to: {Rank})` on all ranks beforehand if you meant to save the global state. " +
                $"(This is rank {Rank} of {Size}; {(ConsolidatedRank is { } rank ? $"the state is on rank {rank}" : "it is on no rank, or was changed by a step since")}.)",
                "state");
        return (_consolidated.Fields, _consolidated.Tensors);
    }

    void IShardedOptimizer.ForgetConsolidated() => ForgetConsolidated();

    /// <summary>Disposes the inner optimizer.</summary>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            ForgetConsolidated();
            _inner.Dispose();
        }

        base.Dispose(disposing);
    }

    /// <summary>All at once: they wait for each other no longer than one would.</summary>
    private void Exchange(ProcessGroup group)
    {
        using var gradientsOff = no_grad();
        var started = _parameters.Select(one => group.Broadcast(one.Parameter, one.Owner)).ToList();
        started.ForEach(work => work.Wait());
    }

    private void ForgetConsolidated()
    {
        _consolidated?.Dispose();
        _consolidated = null;
        ConsolidatedRank = null;
    }

    private List<TorchSharp.Modules.OptimizerState?> OwnStates()
    {
        var own = new Queue<TorchSharp.Modules.OptimizerState>(_inner.state_dict().State); // in the order of the shares
        return [.. _parameters.Select(one => one.Owner == Rank ? own.Dequeue() : null)];
    }

    private List<Parameter> ShareOf(List<Parameter> parameters)
    {
        var owners = _partition.Add([.. parameters.Select(parameter => parameter.numel())]);
        _parameters.AddRange(parameters.Zip(owners));
        return [.. parameters.Zip(owners).Where(pair => pair.Second == Rank).Select(pair => pair.First)];
    }

    private static ParamGroup Whole(List<Parameter> parameters, ParamGroup share) => Group(share.GetType(), parameters, share.Options);

    /// <summary>Schedulers ask groups for momentum or betas, which only the optimizer's own kind of group has.</summary>
    private static ParamGroup Group(Type type, List<Parameter> parameters, OptimizerOptions? options)
    {
        var group = type.GetConstructor([]) is { } constructor ? (ParamGroup)constructor.Invoke(null) : new ParamGroup();
        (group.Parameters, group.Options) = (parameters, options);
        return group;
    }

    private static Func<IReadOnlyList<IReadOnlyList<Parameter>>, optim.Optimizer> ForOneGroup(Func<IEnumerable<Parameter>, optim.Optimizer> factory)
    {
        ArgumentNullException.ThrowIfNull(factory);
        return shares => factory(shares[0]);
    }

    private static OptimizerHelper RequireSharable(optim.Optimizer optimizer, List<List<Parameter>> shares)
    {
        if (optimizer is LBFGS)
            throw Refused("LBFGS cannot be shared out: its search direction depends on the gradients of all parameters at once. Use it without ZeroRedundancyOptimizer, or use another optimizer.");
        if (optimizer is not OptimizerHelper helper)
            throw Refused($"A {optimizer?.GetType().Name ?? "null"} cannot be shared out: its state cannot be reached. The factory must give one of TorchSharp's optimizers, not wrapped.");
        var groups = helper.ParamGroups.Cast<ParamGroup>().Select(group => group.Parameters.Select(parameter => parameter.Handle)).ToList();
        if (groups.Count != shares.Count || groups.Zip(shares).Any(pair => !pair.First.SequenceEqual(pair.Second.Select(parameter => parameter.Handle))))
            throw Refused($"The factory made an optimizer of {groups.Count} groups with {string.Join(" + ", groups.Select(group => group.Count()))} parameters, but was given {shares.Count} with {string.Join(" + ", shares.Select(share => share.Count))}. It must use the parameters that it is given, group by group.");
        return helper;

        ArgumentException Refused(string message)
        {
            optimizer?.Dispose();
            return new ArgumentException(message, "factory");
        }
    }

    private void RequireSameParameters(List<List<Parameter>> groups)
    {
        var known = parameters().Select(TensorIdentity.Of).ToHashSet();
        var repeated = groups.SelectMany(group => group).FirstOrDefault(parameter => !known.Add(TensorIdentity.Of(parameter)));
        var mine = groups.Index().SelectMany(group => Describe(_wholeGroups.Count + group.Index, group.Item)).ToList();
        var all = _group is { Size: > 1 } ? _group.AllGatherObject(string.Join('\n', mine)) : [];
        for (var rank = 1; rank < all.Count; rank++)
            Compare(all[0].Split('\n'), all[rank].Split('\n'), rank);
        if (repeated is not null)
            throw new ArgumentException($"A parameter of shape [{string.Join(", ", repeated.shape)}] is there more than once: some parameters appear in more than one parameter group, or twice in one, as a weight does that two modules share. Pass it once.", "groups");
    }

    private static IEnumerable<string> Describe(int group, List<Parameter> parameters) =>
        parameters.Index().Select(one => $"group {group}, parameter {one.Index}: shape [{string.Join(", ", one.Item.shape)}], {one.Item.dtype}")
            .Append($"group {group}: {parameters.Count} parameters");

    private void Compare(string[] first, string[] other, int rank)
    {
        for (var i = 0; i < Math.Max(first.Length, other.Length); i++)
        {
            var (a, b) = (first.ElementAtOrDefault(i), other.ElementAtOrDefault(i));
            if (a != b)
                throw new ArgumentException(
                    $"ZeroRedundancyOptimizer expects the same parameters in the same order on every rank, but the first difference is: rank 0 has {a ?? "nothing more"}; rank {rank} has {b ?? "nothing more"}. (This is rank {Rank}.)",
                    "parameters");
        }
    }
}
