using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Modules;

/// <summary>
/// A TorchSharp module with five inputs that stands for another: parameters, buffers, sub-modules, their names and <c>state_dict</c> are the
/// original's; disposing it leaves the original alive.
/// </summary>
/// <typeparam name="T1">Type of an input.</typeparam>
/// <typeparam name="T2">Type of an input.</typeparam>
/// <typeparam name="T3">Type of an input.</typeparam>
/// <typeparam name="T4">Type of an input.</typeparam>
/// <typeparam name="T5">Type of an input.</typeparam>
/// <typeparam name="TResult">Type of the output.</typeparam>
public abstract class ModuleWrapper<T1, T2, T3, T4, T5, TResult> : nn.Module<T1, T2, T3, T4, T5, TResult>
{
    private protected ModuleWrapper(nn.Module<T1, T2, T3, T4, T5, TResult> inner)
        : base(inner.GetName()) => Inner = inner;

    /// <summary>The original module.</summary>
    public nn.Module Module => Inner;

    /// <inheritdoc/>
    public override bool training => Inner.training;

    private protected nn.Module<T1, T2, T3, T4, T5, TResult> Inner { get; }

    /// <summary>The original module as <typeparamref name="TModule"/>.</summary>
    /// <exception cref="InvalidCastException">The original is of another type.</exception>
    public TModule Unwrap<TModule>()
        where TModule : nn.Module => OriginalModule.As<TModule>(Inner);

    /// <inheritdoc/>
    public override void train(bool train = true) => Inner.train(train);

    /// <inheritdoc/>
    public override void eval() => Inner.eval();

    /// <inheritdoc/>
    public override void zero_grad(bool set_to_none = true) => Inner.zero_grad(set_to_none);

    /// <inheritdoc/>
    public override IEnumerable<(string name, Parameter parameter)> named_parameters(bool recurse = true) => Inner.named_parameters(recurse);

    /// <inheritdoc/>
    public override IEnumerable<Parameter> parameters(bool recurse = true) => Inner.parameters(recurse);

    /// <inheritdoc/>
    public override IEnumerable<(string name, Tensor buffer)> named_buffers(bool recurse = true, bool include_nonpersistent = true) => Inner.named_buffers(recurse, include_nonpersistent);

    /// <inheritdoc/>
    public override IEnumerable<Tensor> buffers(bool recurse = true, bool include_nonpersistent = true) => Inner.buffers(recurse, include_nonpersistent);

    /// <inheritdoc/>
    public override IEnumerable<(string name, nn.Module module)> named_modules() => Inner.named_modules();

    /// <inheritdoc/>
    public override IEnumerable<nn.Module> modules() => Inner.modules();

    /// <inheritdoc/>
    public override IEnumerable<(string name, nn.Module module)> named_children() => Inner.named_children();

    /// <inheritdoc/>
    public override IEnumerable<nn.Module> children() => Inner.children();

    /// <inheritdoc/>
    public override nn.Module apply(Action<nn.Module> fn)
    {
        Inner.apply(fn);
        return this;
    }

    /// <inheritdoc/>
    public override Dictionary<string, Tensor> state_dict(Dictionary<string, Tensor>? destination = null, string? prefix = null) => Inner.state_dict(destination, prefix);

    /// <inheritdoc/>
    public override (IList<string> missing_keys, IList<string> unexpected_keyes) load_state_dict(Dictionary<string, Tensor> source, bool strict = true, IList<string>? skip = null) => Inner.load_state_dict(source, strict, skip);
}
