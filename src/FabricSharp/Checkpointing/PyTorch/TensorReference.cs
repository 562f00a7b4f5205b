using System.Numerics;

namespace FabricSharp.Checkpointing.PyTorch;

/// <summary>The elements that one or several tensors look at.</summary>
/// <param name="Key">Its name in the file.</param>
/// <param name="Element">Null for an untyped storage, which is measured in bytes.</param>
/// <param name="Count">Of elements (of bytes, where untyped).</param>
internal sealed record TorchStorage(string Key, TorchElement? Element, long Count)
{
    public long Bytes => checked(Count * (Element?.Size ?? 1));

    /// <summary>Position of its first byte, from the start of the file.</summary>
    public long Offset { get; set; }

    /// <summary>How many tensors look at it.</summary>
    public int Uses { get; set; }
}

/// <summary>A tensor of a file: a strided look at a storage. Checked to lie inside it.</summary>
internal sealed record TensorReference(TorchElement Element, TorchStorage Storage, long Offset, long[] Shape, long[] Strides)
{
    public const int MaxRank = 64;

    /// <summary>The most elements of a tensor that repeats some (<c>expand</c>), which the size of its storage does not bound.</summary>
    private const long MaxExpanded = 1 << 20;

    /// <summary>In bytes, in row-major order.</summary>
    public long Length => Shape.Contains(0) ? 0 : Shape.Aggregate((long)Element.Size, (product, size) => product * size);

    /// <summary>Position of its first byte, from the start of the file.</summary>
    public long Start => Storage.Offset + (Offset * Element.Size);

    /// <summary>Elements from the first to the last that it looks at.</summary>
    public long Extent => Shape.Contains(0) ? 0 : 1 + Shape.Zip(Strides, (size, stride) => (size - 1) * stride).Sum();

    /// <summary>Whether the elements lie in row-major order without gaps.</summary>
    public bool IsContiguous
    {
        get
        {
            var expected = 1L;
            for (var d = Shape.Length - 1; d >= 0; d--)
            {
                if (Shape[d] != 1 && Strides[d] != expected)
                    return Length == 0;
                expected *= Math.Max(Shape[d], 1);
            }

            return true;
        }
    }

    /// <exception cref="FormatException">It would look outside of its storage, or be larger than any memory.</exception>
    public static TensorReference Create(TorchElement? element, TorchStorage storage, long offset, long[] shape, long[] strides)
    {
        element ??= storage.Element ?? throw new FormatException("a tensor of an untyped storage has no type");
        if (shape.Length != strides.Length || shape.Length > MaxRank || offset < 0 || shape.Any(size => size < 0) || strides.Any(stride => stride < 0))
            throw new FormatException($"a tensor has the shape [{Text(shape)}], the strides [{Text(strides)}] and the offset {offset}");
        var elements = storage.Bytes / element.Size;
        var last = new BigInteger(offset);
        var product = new BigInteger(element.Size);
        foreach (var (size, stride) in shape.Zip(strides))
        {
            last += new BigInteger(Math.Max(size - 1, 0)) * stride;
            product *= Math.Max(size, 1);
        }

        if (product > long.MaxValue)
            throw new FormatException($"a tensor has the shape [{Text(shape)}], which is larger than any memory");
        if (!shape.Contains(0) && last >= elements)
            throw new FormatException($"a tensor of the shape [{Text(shape)}] with the strides [{Text(strides)}] would reach element {last} of the storage '{storage.Key}', which has {elements}");
        if (storage.Element is not null && storage.Element.Size != element.Size)
            throw new FormatException($"a tensor of {element.Name} looks at the storage '{storage.Key}' of {storage.Element.Name}");
        var tensor = new TensorReference(element, storage, offset, shape, strides);
        if (tensor.Length / element.Size > Math.Max(tensor.Extent, MaxExpanded))
            throw new FormatException($"a tensor repeats {tensor.Extent} elements as [{Text(shape)}]: beyond {MaxExpanded} elements such a tensor is refused. Save a .clone() of it");
        storage.Uses++;
        return tensor;
    }

    private static string Text(long[] numbers) => string.Join(',', numbers);
}
