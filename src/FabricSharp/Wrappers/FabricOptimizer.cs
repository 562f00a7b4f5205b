using FabricSharp.DataParallel;
using FabricSharp.Precision;
using FabricSharp.Strategies;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp;

/// <summary>
/// The optimizer that <c>Setup</c> gives back: usable wherever a TorchSharp optimizer is, learning-rate schedulers included.
/// <see cref="step"/> is refused while gradients are not averaged.
/// Where the original (or, for a sharded one, its inner optimizer) has a momentum or betas, so has this object: it is an
/// <see cref="optim.IMomentum"/> or <see cref="optim.IBetas"/> then, as OneCycleLR and CyclicLR ask for.
/// </summary>
public class FabricOptimizer : optim.Optimizer
{
    private readonly Strategy _strategy;
    private readonly Func<IEnumerable<ModuleHandler>> _modules;
    private readonly ScaledTraining? _scaled;
    private Parameter[]? _parameters;
    private long _passesAtLastStep;

    private protected FabricOptimizer(optim.Optimizer optimizer, Strategy strategy, Func<IEnumerable<ModuleHandler>> modules, ScaledTraining? scaled = null)
        : base(IntPtr.Zero)
    {
        Optimizer = optimizer;
        _strategy = strategy;
        _modules = modules;
        _scaled = scaled;
        _passesAtLastStep = scaled?.BackwardPasses ?? 0;
    }

    /// <summary>Wraps an optimizer in an object that has what the original has.</summary>
    internal static FabricOptimizer Wrap(optim.Optimizer optimizer, Strategy strategy, Func<IEnumerable<ModuleHandler>> modules, ScaledTraining? scaled, Action stepped) =>
        (optimizer is ZeroRedundancyOptimizer sharded ? sharded.Optimizer : optimizer) switch
        {
            optim.IMomentum momentum => new MomentumOptimizer(momentum, optimizer, strategy, modules, scaled) { Stepped = stepped },
            optim.IBetas betas => new BetasOptimizer(betas, optimizer, strategy, modules, scaled) { Stepped = stepped },
            _ => new FabricOptimizer(optimizer, strategy, modules, scaled) { Stepped = stepped },
        };

    /// <summary>The original optimizer.</summary>
    public optim.Optimizer Optimizer { get; }

    /// <summary>Called after each step.</summary>
    internal Action? Stepped { get; init; }

    /// <inheritdoc/>
    public override IEnumerable<optim.ILearningRateController> ParamGroups => Optimizer.ParamGroups;

    /// <summary>
    /// Updates the parameters; with <c>precision: "16-mixed"</c> not where a gradient of some rank is infinite or NaN. Collective where this rank took no part in the last backward pass: it contributes zeros then.
    /// </summary>
    /// <param name="closure">Re-evaluates the model and returns the loss, for optimizers that need it.</param>
    /// <exception cref="UnfinishedReductionException">Parameters got no gradient and the strategy does not allow that.</exception>
    /// <exception cref="NotSupportedException">With <c>precision: "16-mixed"</c>: a closure was given, or the optimizer needs one.</exception>
    /// <exception cref="InvalidOperationException">With <c>precision: "16-mixed"</c>: <see cref="Fabric.Backward"/> was not called since the last step.</exception>
    public override Tensor step(Func<Tensor>? closure = null)
    {
        var result = Step(closure);
        Stepped?.Invoke();
        return result;
    }

    /// <summary>
    /// Takes all gradients away, as PyTorch does: a parameter that the next step does not use is then left alone by the optimizer,
    /// momentum and weight decay included. (TorchSharp's own optimizers write zeros instead.) Local.
    /// </summary>
    public override void zero_grad() => zero_grad(set_to_none: true);

    /// <summary>Takes all gradients away, or writes zeros to them. Local.</summary>
    /// <param name="set_to_none">True: <c>grad</c> becomes null. False: it is filled with zeros, so that unused parameters are stepped, too.</param>
    public void zero_grad(bool set_to_none)
    {
        if (!set_to_none)
        {
            Optimizer.zero_grad();
            return;
        }

        foreach (var parameter in OwnParameters())
            parameter.grad = null;
    }

    /// <inheritdoc/>
    public override IEnumerable<Parameter> parameters() => Optimizer.parameters();

    /// <inheritdoc/>
    public override void add_param_group(ParamGroup param_group)
    {
        Optimizer.add_param_group(param_group);
        _parameters = null;
    }

    /// <summary>Disposes the original optimizer.</summary>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
            Optimizer.Dispose();
        base.Dispose(disposing);
    }

    /// <summary>Afterwards the gradients are what this step is to use. Collective where this rank took no part in the last backward pass.</summary>
    internal void CompleteGradients() => _strategy.BeforeStep(OwnModules());

    private Tensor Step(Func<Tensor>? closure)
    {
        if (_scaled is not null)
            return ScaledStep(_scaled, closure);
        if (closure is null)
        {
            CompleteGradients();
            return Optimizer.step();
        }

        return Optimizer.step(() =>
        {
            var loss = closure();
            CompleteGradients();
            return loss;
        });
    }

    /// <summary>Kept as an array: TorchSharp walks the module tree anew at each enumeration.</summary>
    private Parameter[] OwnParameters() => _parameters ??= [.. Optimizer.parameters()];

    /// <returns>Null, as TorchSharp's optimizers do without a closure.</returns>
    private Tensor ScaledStep(ScaledTraining scaled, Func<Tensor>? closure)
    {
        if (closure is not null)
            throw new NotSupportedException("Closure use is not currently supported if GradScaler is enabled. Run the forward and the backward pass first, then `step()`.");
        CompleteGradients();
        var result = scaled.Step(Optimizer, _passesAtLastStep);
        _passesAtLastStep = scaled.BackwardPasses;
        return result!;
    }

    private IEnumerable<ModuleHandler> OwnModules()
    {
        var own = OwnParameters();
        return _modules().Where(module => Array.Exists(own, module.Owns));
    }
}
