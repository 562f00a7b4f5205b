using FabricSharp.DataParallel;
using FabricSharp.Precision;
using FabricSharp.Strategies;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp;

/// <summary>
/// What <c>Setup</c> makes of a module with one input: a TorchSharp module that the strategy watches over. Names of parameters, state and
/// sub-modules are the original's; disposing it leaves the original alive.
/// </summary>
/// <typeparam name="T">Type of the input.</typeparam>
/// <typeparam name="TResult">Type of the output.</typeparam>
public sealed class FabricModule<T, TResult> : nn.Module<T, TResult>, IFabricModule
{
    private readonly nn.Module<T, TResult> _inner;
    private readonly ModuleHandler _handler;
    private readonly PrecisionPlugin? _precision;

    internal FabricModule(nn.Module<T, TResult> inner, ModuleHandler handler, PrecisionPlugin? precision = null)
        : base(inner.GetName())
    {
        _inner = inner;
        _handler = handler;
        _precision = precision;
    }

    /// <inheritdoc/>
    public nn.Module Module => _inner;

    /// <inheritdoc/>
    public UnusedParameterReport UnusedParameters => _handler.UnusedParameters;

    /// <inheritdoc/>
    public override bool training => _inner.training;

    ModuleHandler IFabricModule.Handler => _handler;

    /// <inheritdoc/>
    public TModule Unwrap<TModule>()
        where TModule : nn.Module => FabricModule.Unwrap<TModule>(_inner);

    /// <summary>
    /// The original's forward pass in the precision: floating-point inputs and outputs are converted where it is not <c>32-true</c>. Collective in
    /// training: every rank calls it equally often.
    /// </summary>
    public override TResult forward(T input)
    {
        _handler.BeginForward();
        if (_precision is null)
            return _inner.call(input);
        using var pass = new ForwardPass(_precision);
        return pass.Output(_inner.call(pass.Input(input)));
    }

    /// <summary>
    /// Runs any other method of the original as a forward pass. Collective like <see cref="forward"/>. Outputs are converted; for inputs there is
    /// <see cref="PrecisionPlugin.ConvertInput"/>.
    /// </summary>
    /// <param name="method">Gets the original module.</param>
    public TOutput Invoke<TModule, TOutput>(Func<TModule, TOutput> method)
        where TModule : nn.Module
    {
        ArgumentNullException.ThrowIfNull(method);
        _handler.BeginForward();
        if (_precision is null)
            return method(Unwrap<TModule>());
        using var pass = new ForwardPass(_precision);
        return pass.ForeignOutput(method(Unwrap<TModule>()));
    }

    /// <inheritdoc/>
    public override void train(bool train = true) => _inner.train(train);

    /// <inheritdoc/>
    public override void eval() => _inner.eval();

    /// <inheritdoc/>
    public override void zero_grad(bool set_to_none = true) => _inner.zero_grad(set_to_none);

    /// <inheritdoc/>
    public override IEnumerable<(string name, Parameter parameter)> named_parameters(bool recurse = true) => _inner.named_parameters(recurse);

    /// <inheritdoc/>
    public override IEnumerable<Parameter> parameters(bool recurse = true) => _inner.parameters(recurse);

    /// <inheritdoc/>
    public override IEnumerable<(string name, Tensor buffer)> named_buffers(bool recurse = true, bool include_nonpersistent = true) => _inner.named_buffers(recurse, include_nonpersistent);

    /// <inheritdoc/>
    public override IEnumerable<Tensor> buffers(bool recurse = true, bool include_nonpersistent = true) => _inner.buffers(recurse, include_nonpersistent);

    /// <inheritdoc/>
    public override IEnumerable<(string name, nn.Module module)> named_modules() => _inner.named_modules();

    /// <inheritdoc/>
    public override IEnumerable<nn.Module> modules() => _inner.modules();

    /// <inheritdoc/>
    public override IEnumerable<(string name, nn.Module module)> named_children() => _inner.named_children();

    /// <inheritdoc/>
    public override IEnumerable<nn.Module> children() => _inner.children();

    /// <inheritdoc/>
    public override nn.Module apply(Action<nn.Module> fn)
    {
        _inner.apply(fn);
        return this;
    }

    /// <inheritdoc/>
    public override Dictionary<string, Tensor> state_dict(Dictionary<string, Tensor>? destination = null, string? prefix = null) => _inner.state_dict(destination, prefix);

    /// <inheritdoc/>
    public override (IList<string> missing_keys, IList<string> unexpected_keyes) load_state_dict(Dictionary<string, Tensor> source, bool strict = true, IList<string>? skip = null) => _inner.load_state_dict(source, strict, skip);

    /// <summary>Ends the averaging of this module's gradients. The original module is not disposed: it is the caller's.</summary>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
            _handler.Dispose();
    }
}
