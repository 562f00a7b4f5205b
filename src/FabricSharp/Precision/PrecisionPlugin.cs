using FabricSharp.Configuration;
using FabricSharp.Data;
using static TorchSharp.torch;

namespace FabricSharp.Precision;

/// <summary>
/// In which element types a model is kept and computes: what <c>Setup</c> converts, what happens around forward passes, whether the loss
/// is scaled. Chosen by name (see <see cref="Available"/>) or as an object, for one Fabric each.
/// </summary>
/// <remarks>
/// Converted inputs live as long as the forward pass, and so does an output of the module that is handed on converted: a module that keeps
/// one of them keeps an <c>alias()</c> or <c>detach()</c> of it.
/// </remarks>
public abstract class PrecisionPlugin
{
    /// <summary>Every accepted name; <c>16</c>, <c>bf16</c>, <c>32</c> and <c>64</c> are short forms.</summary>
    public static IReadOnlyList<string> Available => PrecisionNames.Accepted;

    /// <summary>The name by which it is chosen, for example <c>bf16-mixed</c>.</summary>
    public abstract string Name { get; }

    /// <summary>What <c>Setup</c> converts floating-point parameters and buffers to.</summary>
    /// <value>Default null: they stay as they are.</value>
    public virtual ScalarType? ParameterType => null;

    /// <summary>What floating-point inputs of a forward pass are converted to; other inputs are left alone.</summary>
    /// <value>Default null: they stay as they are.</value>
    public virtual ScalarType? InputType => null;

    /// <summary>Scales the loss; null where that is not needed.</summary>
    public virtual GradScaler? Scaler => null;

    /// <summary>Whether forward passes are those of the original module, so that nothing is to be done around them.</summary>
    internal virtual bool LeavesForwardAlone => false;

    /// <summary>Whether other ranks are threads of this process, so that what belongs to all of it must not be changed.</summary>
    internal bool SharesProcess { get; init; }

    /// <summary>The state in which parameters are made: new tensors have <see cref="ParameterType"/> (unless ranks are threads). Local.</summary>
    /// <returns>Dispose it to end it.</returns>
    public virtual IDisposable InitContext() => ParameterType is { } type && !SharesProcess ? new DefaultTypeScope(type) : NoContext.Instance;

    /// <summary>The state around a forward pass, for example autocast. Local.</summary>
    /// <returns>Dispose it on the same thread to end it.</returns>
    public abstract IDisposable ForwardContext();

    /// <summary>The same with every floating-point tensor in it as <see cref="InputType"/>, through nested lists, dictionaries, tuples and records. Local.</summary>
    public T ConvertInput<T>(T input) =>
        InputType is { } type ? TensorTree.Map(input, tensor => Converted(tensor, type)) : input;

    /// <summary>The same with every floating-point tensor in it in the default element type. Local.</summary>
    public T ConvertOutput<T>(T output)
    {
        if (LeavesForwardAlone)
            return output;
        var type = DefaultTypeScope.Current;
        return TensorTree.Map(output, tensor => Converted(tensor, type));
    }

    /// <summary>
    /// Divides the gradients by the scale before they are clipped or looked at, once per step; nothing where the loss is not scaled.
    /// Collective where it is.
    /// </summary>
    /// <param name="optimizer">Whose parameters' gradients.</param>
    /// <exception cref="InvalidOperationException">Called twice in a step.</exception>
    public void UnscaleGradients(optim.Optimizer optimizer) => Scaler?.Unscale(optimizer);

    /// <inheritdoc/>
    public override string ToString() => Name;

    /// <summary>Refuses what this precision cannot do, before anything starts.</summary>
    internal virtual void Check(FabricPlan plan)
    {
    }

    /// <summary>The same settings for one of several ranks that are threads.</summary>
    internal virtual PrecisionPlugin CopyForThread() => this;

    internal static Tensor Converted(Tensor tensor, ScalarType type) =>
        tensor.is_floating_point() && tensor.dtype != type ? tensor.to(type) : tensor;
}
