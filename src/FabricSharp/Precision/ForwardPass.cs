using FabricSharp.Data;
using static TorchSharp.torch;

namespace FabricSharp.Precision;

/// <summary>
/// One forward pass in a precision. Converted inputs live as long as it, and so do the module's own outputs where a converted one is
/// handed on (TorchSharp's Sequential treats what passes between its modules in the same way); autograd keeps the memory that it needs.
/// </summary>
internal sealed class ForwardPass : IDisposable
{
    private readonly PrecisionPlugin _precision;
    private readonly ScalarType _outputType = DefaultTypeScope.Current;
    private readonly IDisposable _context;

    /// <summary>Tensors that this object made and nobody else holds.</summary>
    private readonly HashSet<Tensor> _own = new(ReferenceEqualityComparer.Instance);

    /// <summary>Tensors that the caller holds.</summary>
    private readonly HashSet<Tensor> _given = new(ReferenceEqualityComparer.Instance);

    public ForwardPass(PrecisionPlugin precision)
    {
        _precision = precision;
        _context = precision.ForwardContext();
    }

    public T Input<T>(T input) => TensorTree.Map(input, ConvertedInput);

    /// <summary>The output of the module's forward pass, whose inputs all went through <see cref="Input"/>.</summary>
    public TResult Output<TResult>(TResult output) => TensorTree.Map(output, ConvertedOutput);

    /// <summary>The output of a method that may have used any other tensor and may return one.</summary>
    public TResult ForeignOutput<TResult>(TResult output) => TensorTree.Map(output, tensor => PrecisionPlugin.Converted(tensor, _outputType));

    public void Dispose()
    {
        _context.Dispose();
        foreach (var tensor in _own)
            tensor.Dispose();
    }

    private Tensor ConvertedInput(Tensor tensor)
    {
        _given.Add(tensor);
        var converted = _precision.InputType is { } type ? PrecisionPlugin.Converted(tensor, type) : tensor;
        if (!ReferenceEquals(converted, tensor))
            _own.Add(converted);
        return converted;
    }

    private Tensor ConvertedOutput(Tensor tensor)
    {
        var converted = PrecisionPlugin.Converted(tensor, _outputType);
        if (ReferenceEquals(converted, tensor))
            _own.Remove(tensor);
        else if (IsFresh(tensor))
            _own.Add(tensor);
        return converted;
    }

    /// <summary>Only what autograd has just computed is nobody's: parameters, buffers and constants may be the module's.</summary>
    private bool IsFresh(Tensor tensor) => tensor.requires_grad && !tensor.is_leaf && !_given.Contains(tensor);
}
