using FabricSharp.Interop.LibTorch;
using FabricSharp.Modules;
using FabricSharp.Precision;
using FabricSharp.Strategies;
using FabricSharp.Wrappers;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp;

/// <summary>Setting up models and optimizers.</summary>
public sealed partial class Fabric
{
    private readonly List<ModuleHandler> _handlers = [];

    /// <summary>Originals that were set up already.</summary>
    private readonly HashSet<object> _setUp = new(ReferenceEqualityComparer.Instance);

    /// <summary>What a module does around its forward passes; null where that is nothing.</summary>
    private PrecisionPlugin? ForwardPrecision => Precision.LeavesForwardAlone ? null : Precision;

    /// <summary>Wraps optimizers whose models were set up on their own. Local.</summary>
    /// <param name="optimizers">At least one, none of them wrapped.</param>
    public FabricOptimizer[] SetupOptimizers(params optim.Optimizer[] optimizers)
    {
        ArgumentNullException.ThrowIfNull(optimizers);
        if (optimizers.Length == 0)
            throw new ArgumentException("`SetupOptimizers` requires at least one optimizer as input.", nameof(optimizers));
        RequireLaunched(nameof(SetupOptimizers));
        return [.. optimizers.Select(WrapOptimizer)];
    }

    private FabricOptimizer WrapOptimizer(optim.Optimizer optimizer)
    {
        ArgumentNullException.ThrowIfNull(optimizer);
        if (optimizer is FabricOptimizer || !_setUp.Add(optimizer))
            throw new ArgumentException("An optimizer should be passed only once to the `Setup` methods: this one was set up already. Write `var (model, optimizer) = fabric.Setup(module, optimizer);` once and use the optimizer that came back.", nameof(optimizer));
        if (Precision.ParameterType is not null)
            OptimizerPlacement.FollowParameters(optimizer);
        return FabricOptimizer.Wrap(optimizer, Strategy, () => _handlers, _scaled, () => CallHook("OnAfterOptimizerStep", () => new { strategy = Strategy, optimizer }));
    }

    /// <summary>Refuses optimizers that would leave <paramref name="module"/> as it is, before anything is set up.</summary>
    private static void RequireTraining(nn.Module module, params optim.Optimizer[] optimizers)
    {
        ArgumentNullException.ThrowIfNull(module);
        ArgumentNullException.ThrowIfNull(optimizers);
        var own = Original(module).parameters().Select(TensorIdentity.Of).ToHashSet();
        foreach (var optimizer in optimizers)
        {
            ArgumentNullException.ThrowIfNull(optimizer);
            var trained = optimizer is OptimizerHelper ? optimizer.parameters().ToList() : []; // LBFGS prints a warning when it is asked
            if (trained.Count > 0 && !trained.Exists(parameter => !parameter.IsInvalid && own.Contains(TensorIdentity.Of(parameter))))
                throw new ArgumentException(
                    $"The optimizer {optimizer.GetType().Name} trains none of the parameters of {module.GetName()}: it was made for another model, or before `module.to(…)`, which makes new parameters. " +
                    $"Write `var optimizer = torch.optim.{optimizer.GetType().Name}(module.parameters());` right before `fabric.Setup(module, optimizer)`, which moves the module by itself.", nameof(optimizers));
        }
    }

    private void WarnOfSeveralDevices(nn.Module module)
    {
        var byDevice = module.named_parameters().GroupBy(p => p.parameter.device.ToString()).Select(group => (Device: group.Key, group.First().name, Count: group.Count())).ToList();
        if (byDevice.Count > 1 && IsGlobalZero)
            WarnOnce([
                $"The model passed to `Fabric.Setup()` has {byDevice.Sum(device => device.Count)} parameters on different devices (for example '{byDevice[0].name}' on {byDevice[0].Device} and '{byDevice[1].name}' on {byDevice[1].Device}). " +
                $"All are moved to {Device}. If this is not desired, set `fabric.SetupModule(module, moveToDevice: false)`.",
            ]);
    }

    private static nn.Module Original(nn.Module module) => module is IFabricModule wrapped ? wrapped.Module : module;

    /// <summary>Moves the module in place, makes the ranks' replicas equal, and has the strategy watch over it.</summary>
    private ModuleHandler Prepare(nn.Module module, bool moveToDevice)
    {
        ArgumentNullException.ThrowIfNull(module);
        RequireLaunched("Setup");
        if (module is IFabricModule || !_setUp.Add(module))
            throw new ArgumentException("A model should be passed only once to the `Setup` methods: this one was set up already. Write `var model = fabric.Setup(module);` once and use the model that came back.", nameof(module));
        if (moveToDevice)
            WarnOfSeveralDevices(module);
        ModulePlacement.Move(module, moveToDevice ? Device : null, Precision.ParameterType);
        var handler = Strategy.SetupModule(module);
        _handlers.Add(handler);
        CallHook("OnAfterSetup", () => new { fabric = this, module });
        return handler;
    }

    /// <summary>
    /// Readies a model for training: it is moved to <see cref="Device"/> and to the precision's element type in place (optimizers made before stay valid, tied weights stay tied),
    /// and every rank gets rank 0's values. Collective: every rank sets up the same models in the same order.
    /// </summary>
    /// <param name="module">The model.</param>
    /// <param name="moveToDevice">False leaves parameters and buffers on the devices where they are. <value>Default true.</value></param>
    /// <exception cref="InvalidOperationException">The ranks' models differ, or no parameter requires a gradient.</exception>
    public FabricModule<T, TResult> SetupModule<T, TResult>(nn.Module<T, TResult> module, bool moveToDevice = true) =>
        new(module, Prepare(module, moveToDevice), ForwardPrecision);

    /// <inheritdoc cref="SetupModule{T, TResult}"/>
    public FabricModule<T, TResult> Setup<T, TResult>(nn.Module<T, TResult> module) => SetupModule(module);

    /// <inheritdoc cref="SetupModule{T, TResult}"/>
    /// <exception cref="ArgumentException">Set up already, or an optimizer trains none of the module's parameters.</exception>
    public (FabricModule<T, TResult> Module, FabricOptimizer Optimizer) Setup<T, TResult>(nn.Module<T, TResult> module, optim.Optimizer optimizer)
    {
        RequireTraining(module, optimizer);
        return (SetupModule(module), WrapOptimizer(optimizer));
    }

    /// <inheritdoc cref="SetupModule{T, TResult}"/>
    /// <exception cref="ArgumentException">Set up already, or an optimizer trains none of the module's parameters.</exception>
    public (FabricModule<T, TResult> Module, FabricOptimizer[] Optimizers) Setup<T, TResult>(nn.Module<T, TResult> module, params optim.Optimizer[] optimizers)
    {
        RequireTraining(module, optimizers);
        return (SetupModule(module), SetupOptimizers(optimizers));
    }

    /// <summary>
    /// Readies a model for training: it is moved to <see cref="Device"/> and to the precision's element type in place (optimizers made before stay valid, tied weights stay tied),
    /// and every rank gets rank 0's values. Collective: every rank sets up the same models in the same order.
    /// </summary>
    /// <param name="module">The model.</param>
    /// <param name="moveToDevice">False leaves parameters and buffers on the devices where they are. <value>Default true.</value></param>
    /// <exception cref="InvalidOperationException">The ranks' models differ, or no parameter requires a gradient.</exception>
    public FabricModule<T1, T2, TResult> SetupModule<T1, T2, TResult>(nn.Module<T1, T2, TResult> module, bool moveToDevice = true) =>
        new(module, Prepare(module, moveToDevice), ForwardPrecision);

    /// <inheritdoc cref="SetupModule{T1,T2, TResult}"/>
    public FabricModule<T1, T2, TResult> Setup<T1, T2, TResult>(nn.Module<T1, T2, TResult> module) => SetupModule(module);

    /// <inheritdoc cref="SetupModule{T1,T2, TResult}"/>
    public (FabricModule<T1, T2, TResult> Module, FabricOptimizer Optimizer) Setup<T1, T2, TResult>(nn.Module<T1, T2, TResult> module, optim.Optimizer optimizer)
    {
        RequireTraining(module, optimizer);
        return (SetupModule(module), WrapOptimizer(optimizer));
    }

    /// <inheritdoc cref="SetupModule{T1,T2, TResult}"/>
    public (FabricModule<T1, T2, TResult> Module, FabricOptimizer[] Optimizers) Setup<T1, T2, TResult>(nn.Module<T1, T2, TResult> module, params optim.Optimizer[] optimizers)
    {
        RequireTraining(module, optimizers);
        return (SetupModule(module), SetupOptimizers(optimizers));
    }

    /// <summary>
    /// Readies a model for training: it is moved to <see cref="Device"/> and to the precision's element type in place (optimizers made before stay valid, tied weights stay tied),
    /// and every rank gets rank 0's values. Collective: every rank sets up the same models in the same order.
    /// </summary>
    /// <param name="module">The model.</param>
    /// <param name="moveToDevice">False leaves parameters and buffers on the devices where they are. <value>Default true.</value></param>
    /// <exception cref="InvalidOperationException">The ranks' models differ, or no parameter requires a gradient.</exception>
    public FabricModule<T1, T2, T3, TResult> SetupModule<T1, T2, T3, TResult>(nn.Module<T1, T2, T3, TResult> module, bool moveToDevice = true) =>
        new(module, Prepare(module, moveToDevice), ForwardPrecision);

    /// <inheritdoc cref="SetupModule{T1,T2,T3, TResult}"/>
    public FabricModule<T1, T2, T3, TResult> Setup<T1, T2, T3, TResult>(nn.Module<T1, T2, T3, TResult> module) => SetupModule(module);

    /// <inheritdoc cref="SetupModule{T1,T2,T3, TResult}"/>
    public (FabricModule<T1, T2, T3, TResult> Module, FabricOptimizer Optimizer) Setup<T1, T2, T3, TResult>(nn.Module<T1, T2, T3, TResult> module, optim.Optimizer optimizer)
    {
        RequireTraining(module, optimizer);
        return (SetupModule(module), WrapOptimizer(optimizer));
    }

    /// <inheritdoc cref="SetupModule{T1,T2,T3, TResult}"/>
    public (FabricModule<T1, T2, T3, TResult> Module, FabricOptimizer[] Optimizers) Setup<T1, T2, T3, TResult>(nn.Module<T1, T2, T3, TResult> module, params optim.Optimizer[] optimizers)
    {
        RequireTraining(module, optimizers);
        return (SetupModule(module), SetupOptimizers(optimizers));
    }

    /// <summary>
    /// Readies a model for training: it is moved to <see cref="Device"/> and to the precision's element type in place (optimizers made before stay valid, tied weights stay tied),
    /// and every rank gets rank 0's values. Collective: every rank sets up the same models in the same order.
    /// </summary>
    /// <param name="module">The model.</param>
    /// <param name="moveToDevice">False leaves parameters and buffers on the devices where they are. <value>Default true.</value></param>
    /// <exception cref="InvalidOperationException">The ranks' models differ, or no parameter requires a gradient.</exception>
    public FabricModule<T1, T2, T3, T4, TResult> SetupModule<T1, T2, T3, T4, TResult>(nn.Module<T1, T2, T3, T4, TResult> module, bool moveToDevice = true) =>
        new(module, Prepare(module, moveToDevice), ForwardPrecision);

    /// <inheritdoc cref="SetupModule{T1,T2,T3,T4, TResult}"/>
    public FabricModule<T1, T2, T3, T4, TResult> Setup<T1, T2, T3, T4, TResult>(nn.Module<T1, T2, T3, T4, TResult> module) => SetupModule(module);

    /// <inheritdoc cref="SetupModule{T1,T2,T3,T4, TResult}"/>
    public (FabricModule<T1, T2, T3, T4, TResult> Module, FabricOptimizer Optimizer) Setup<T1, T2, T3, T4, TResult>(nn.Module<T1, T2, T3, T4, TResult> module, optim.Optimizer optimizer)
    {
        RequireTraining(module, optimizer);
        return (SetupModule(module), WrapOptimizer(optimizer));
    }

    /// <inheritdoc cref="SetupModule{T1,T2,T3,T4, TResult}"/>
    public (FabricModule<T1, T2, T3, T4, TResult> Module, FabricOptimizer[] Optimizers) Setup<T1, T2, T3, T4, TResult>(nn.Module<T1, T2, T3, T4, TResult> module, params optim.Optimizer[] optimizers)
    {
        RequireTraining(module, optimizers);
        return (SetupModule(module), SetupOptimizers(optimizers));
    }

    /// <summary>
    /// Readies a model for training: it is moved to <see cref="Device"/> and to the precision's element type in place (optimizers made before stay valid, tied weights stay tied),
    /// and every rank gets rank 0's values. Collective: every rank sets up the same models in the same order.
    /// </summary>
    /// <param name="module">The model.</param>
    /// <param name="moveToDevice">False leaves parameters and buffers on the devices where they are. <value>Default true.</value></param>
    /// <exception cref="InvalidOperationException">The ranks' models differ, or no parameter requires a gradient.</exception>
    public FabricModule<T1, T2, T3, T4, T5, TResult> SetupModule<T1, T2, T3, T4, T5, TResult>(nn.Module<T1, T2, T3, T4, T5, TResult> module, bool moveToDevice = true) =>
        new(module, Prepare(module, moveToDevice), ForwardPrecision);

    /// <inheritdoc cref="SetupModule{T1,T2,T3,T4,T5, TResult}"/>
    public FabricModule<T1, T2, T3, T4, T5, TResult> Setup<T1, T2, T3, T4, T5, TResult>(nn.Module<T1, T2, T3, T4, T5, TResult> module) => SetupModule(module);

    /// <inheritdoc cref="SetupModule{T1,T2,T3,T4,T5, TResult}"/>
    public (FabricModule<T1, T2, T3, T4, T5, TResult> Module, FabricOptimizer Optimizer) Setup<T1, T2, T3, T4, T5, TResult>(nn.Module<T1, T2, T3, T4, T5, TResult> module, optim.Optimizer optimizer)
    {
        RequireTraining(module, optimizer);
        return (SetupModule(module), WrapOptimizer(optimizer));
    }

    /// <inheritdoc cref="SetupModule{T1,T2,T3,T4,T5, TResult}"/>
    public (FabricModule<T1, T2, T3, T4, T5, TResult> Module, FabricOptimizer[] Optimizers) Setup<T1, T2, T3, T4, T5, TResult>(nn.Module<T1, T2, T3, T4, T5, TResult> module, params optim.Optimizer[] optimizers)
    {
        RequireTraining(module, optimizers);
        return (SetupModule(module), SetupOptimizers(optimizers));
    }

    /// <summary>
    /// Readies a model for training: it is moved to <see cref="Device"/> and to the precision's element type in place (optimizers made before stay valid, tied weights stay tied),
    /// and every rank gets rank 0's values. Collective: every rank sets up the same models in the same order.
    /// </summary>
    /// <param name="module">The model.</param>
    /// <param name="moveToDevice">False leaves parameters and buffers on the devices where they are. <value>Default true.</value></param>
    /// <exception cref="InvalidOperationException">The ranks' models differ, or no parameter requires a gradient.</exception>
    public FabricModule<T1, T2, T3, T4, T5, T6, TResult> SetupModule<T1, T2, T3, T4, T5, T6, TResult>(nn.Module<T1, T2, T3, T4, T5, T6, TResult> module, bool moveToDevice = true) =>
        new(module, Prepare(module, moveToDevice), ForwardPrecision);

    /// <inheritdoc cref="SetupModule{T1,T2,T3,T4,T5,T6, TResult}"/>
    public FabricModule<T1, T2, T3, T4, T5, T6, TResult> Setup<T1, T2, T3, T4, T5, T6, TResult>(nn.Module<T1, T2, T3, T4, T5, T6, TResult> module) => SetupModule(module);

    /// <inheritdoc cref="SetupModule{T1,T2,T3,T4,T5,T6, TResult}"/>
    public (FabricModule<T1, T2, T3, T4, T5, T6, TResult> Module, FabricOptimizer Optimizer) Setup<T1, T2, T3, T4, T5, T6, TResult>(nn.Module<T1, T2, T3, T4, T5, T6, TResult> module, optim.Optimizer optimizer)
    {
        RequireTraining(module, optimizer);
        return (SetupModule(module), WrapOptimizer(optimizer));
    }

    /// <inheritdoc cref="SetupModule{T1,T2,T3,T4,T5,T6, TResult}"/>
    public (FabricModule<T1, T2, T3, T4, T5, T6, TResult> Module, FabricOptimizer[] Optimizers) Setup<T1, T2, T3, T4, T5, T6, TResult>(nn.Module<T1, T2, T3, T4, T5, T6, TResult> module, params optim.Optimizer[] optimizers)
    {
        RequireTraining(module, optimizers);
        return (SetupModule(module), SetupOptimizers(optimizers));
    }
}
