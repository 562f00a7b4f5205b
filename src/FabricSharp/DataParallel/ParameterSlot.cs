using FabricSharp.Collectives;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>One parameter of the model and its place in a bucket.</summary>
internal sealed class ParameterSlot
{
    public ParameterSlot(int index, string name, Parameter parameter)
    {
        Index = index;
        Name = name;
        Parameter = parameter;
        Type = parameter.dtype;
        Shape = parameter.shape;
        Strides = LayoutOf(parameter);
        ElementCount = parameter.numel();
        Bytes = ElementCount * Type.SizeInBytes();
    }

    public int Index { get; }

    public string Name { get; }

    public Parameter Parameter { get; }

    public ScalarType Type { get; }

    public long[] Shape { get; }

    /// <summary>The strides of gradients: the parameter's where it is dense, else row-major.</summary>
    public long[] Strides { get; }

    public long ElementCount { get; }

    public long Bytes { get; }

    /// <summary>Whether the gradient lives in the reducer's pool, not in its bucket's memory.</summary>
    public bool IsPooled { get; set; }

    /// <summary>What the gradient is averaged with; changes when buckets are rebuilt.</summary>
    public GradientPiece Piece { get; set; } = null!;

    /// <summary>The bucket's memory, and the position in it in bytes; not used when <see cref="IsPooled"/>.</summary>
    public GradientBuffer? Buffer { get; set; }

    public long Offset { get; set; }

    /// <summary>Where in the pool the gradient lies in this pass.</summary>
    public IntPtr PoolData { get; set; }

    /// <summary>The gradient's place in the bucket as a tensor; null where gradients are copied by pointer.</summary>
    public Tensor? View { get; set; }

    /// <summary>The last backward pass in which this rank put a gradient into the bucket.</summary>
    public long ReadyPass { get; set; } = -1;

    /// <summary>How often the hook fires in a backward pass: more than once where nested backward passes (recomputation) reach the parameter, which takes a static graph.</summary>
    public int ExpectedFirings { get; set; } = 1;

    /// <summary>How often the hook has fired in this backward pass.</summary>
    public int Firings { get; set; }

    /// <summary>Whether the reducer hears of the parameter's gradients from libtorch.</summary>
    public bool IsHooked { get; set; }

    /// <summary>Whether a pass without synchronisation, or one that ended in an exception, gave the parameter a gradient that was not averaged yet.</summary>
    public bool HasLocalGradient { get; set; }

    /// <summary>Where the gradient lies when it is averaged.</summary>
    public IntPtr Slice => IsPooled ? PoolData : Buffer!.Pointer + (nint)Offset;

    public BucketItem ToItem() => new(Index, Bytes, Type, Parameter.device_type, Parameter.device_index);

    private static long[] LayoutOf(Tensor parameter)
    {
        var strides = parameter.stride();
        return IsDense(parameter.shape, strides) ? strides : RowMajor(parameter.shape);
    }

    /// <summary>Whether the strides cover each element of a block of memory once.</summary>
    private static bool IsDense(long[] shape, long[] strides)
    {
        var expected = 1L;
        foreach (var (stride, size) in strides.Zip(shape).Where(d => d.Second != 1).OrderBy(d => d.First))
        {
            if (stride != expected)
                return false;
            expected *= size;
        }

        return true;
    }

    private static long[] RowMajor(long[] shape)
    {
        var strides = new long[shape.Length];
        var next = 1L;
        for (var d = shape.Length - 1; d >= 0; d--)
        {
            strides[d] = next;
            next *= Math.Max(1, shape[d]);
        }

        return strides;
    }
}
