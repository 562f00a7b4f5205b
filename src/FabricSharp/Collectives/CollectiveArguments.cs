using FabricSharp.Interop.LibTorch;
using static FabricSharp.Collectives.ReduceOp;
using static TorchSharp.torch;

namespace FabricSharp.Collectives;

/// <summary>Checks of what a caller passes to an operation: local, before anything is sent, the same for every back end.</summary>
internal readonly struct CollectiveArguments(ProcessGroup group, string operation)
{
    private string Start => $"{group.Me}: {operation}";

    /// <summary>A tensor that the group can move.</summary>
    public void RequireTensor(Tensor? tensor, string name)
    {
        ArgumentNullException.ThrowIfNull(tensor, name);
        if (tensor.device_type != group.TensorDevice.type)
            throw new ArgumentException(
                $"{Start}: the {group.Backend} back end takes tensors on {group.TensorDevice.type}, '{name}' is on {tensor.device}. " +
                $"Move it first: {name}.to(DeviceType.{group.TensorDevice.type}).", name);
        if (group.TensorDevice.index >= 0 && tensor.device_index != group.TensorDevice.index)
            throw new ArgumentException(
                $"{Start}: this rank's device is {group.TensorDevice}, '{name}' is on {tensor.device}. Move it first: {name}.to(new Device(\"{group.TensorDevice}\")).", name);
        if (tensor.is_sparse)
            throw new ArgumentException($"{Start}: '{name}' is sparse; strided tensors are taken. Write {name}.to_dense().", name);
        if (!tensor.dtype.CanBeCommunicated())
            throw new ArgumentException($"{Start}: '{name}' is {tensor.dtype}, which cannot be communicated. Convert it to a number type first.", name);
    }

    /// <summary>A reduction that has a meaning for the type.</summary>
    public void RequireReduction(ReduceOp op, ScalarType type)
    {
        var known = type.IsFloatingPoint() || type.IsInteger() || type == ScalarType.Bool;
        var fits = op.Operation switch
        {
            Kind.Average or Kind.PreMulSum => type.IsFloatingPoint(),
            Kind.BitwiseAnd or Kind.BitwiseOr or Kind.BitwiseXor => type.IsInteger() || type == ScalarType.Bool,
            _ => known,
        };
        if (!fits)
            throw new ArgumentException($"{Start}({op}) is not defined for {type} tensors. " + (known
                ? "Sum, Product, Min and Max take every number type; Average and PreMulSum floating-point types; the bitwise ones integers and booleans."
                : type is ScalarType.ComplexFloat32 or ScalarType.ComplexFloat64
                    ? "Reduce its real view (view_as_real) instead."
                    : "Convert to an integer or floating-point type first."));
    }

    public void RequireRank(int rank, string name)
    {
        if (rank < 0 || rank >= group.Size)
            throw new ArgumentOutOfRangeException(name, rank, $"{Start}: the {name} must be a rank of the group, 0 to {group.Size - 1}.");
    }

    public void RequirePeer(int rank, string name)
    {
        RequireRank(rank, name);
        if (rank == group.Rank)
            throw new ArgumentOutOfRangeException(name, rank, $"{Start}: the {name} is this rank itself. Copy the tensor instead.");
    }

    public void RequireTag(int tag)
    {
        if (tag < 0)
            throw new ArgumentOutOfRangeException(nameof(tag), tag, $"{Start}: a tag is 0 or more.");
    }

    public void RequireMembers(int[] ranks, string name)
    {
        if (ranks.Length == 0)
            throw new ArgumentException($"{Start}: the list of ranks is empty. A group has one rank at least.", name);
        foreach (var rank in ranks)
            RequireRank(rank, name);
        if (ranks.Distinct().Count() != ranks.Length)
            throw new ArgumentException($"{Start}({string.Join(", ", ranks)}): a rank is named twice. Name each member once.", name);
    }

    public void RequireContiguous(Tensor tensor, string name)
    {
        if (!tensor.is_contiguous())
            throw new ArgumentException(
                $"{Start}: '{name}' must be contiguous; {Describe(tensor)} has strides ({string.Join(", ", tensor.stride())}). " +
                "Make it with zeros or empty, and copy from it afterwards.", name);
    }

    public void RequireSameType(Tensor tensor, string name, Tensor other, string otherName)
    {
        if (tensor.dtype != other.dtype)
            throw new ArgumentException($"{Start}: '{name}' is {tensor.dtype} and '{otherName}' {other.dtype}; both must have the same data type. Convert one with to().", name);
    }

    public void RequireElements(Tensor tensor, string name, long count, string why)
    {
        if (tensor.numel() != count)
            throw new ArgumentException($"{Start}: '{name}' must have {count} elements ({why}); {Describe(tensor)} has {tensor.numel()}.", name);
    }

    /// <summary>An output for as many parts as there are ranks.</summary>
    public void RequireWhole(Tensor? whole, string name, Tensor part, string partName)
    {
        RequireTensor(whole, name);
        RequireElements(whole!, name, part.numel() * group.Size, $"{group.Size} ranks × the {part.numel()} of '{partName}'");
        if (!whole!.is_contiguous() || whole.dtype != part.dtype)
            throw new ArgumentException(
                $"{Start}: '{name}' must be contiguous, {part.dtype}, of {part.numel() * group.Size} elements; it is {Describe(whole)}" +
                $"{(whole.is_contiguous() ? "" : ", not contiguous")}. Write for example empty({group.Size}, …, dtype: {part.dtype}).", name);
    }

    /// <summary>An input of as many parts as there are ranks.</summary>
    public void RequireParts(Tensor? whole, string name, Tensor part, string partName)
    {
        RequireTensor(whole, name);
        RequireSameType(whole!, name, part, partName);
        RequireElements(whole!, name, part.numel() * group.Size, $"{group.Size} ranks × the {part.numel()} of '{partName}'");
    }

    public void RequireEqualParts(Tensor tensor, string name)
    {
        if (tensor.dim() == 0 || tensor.shape[0] % group.Size != 0)
            throw new ArgumentException(
                $"{Start}: the first dimension of '{name}' must be a multiple of the number of ranks, {group.Size}; it is {Describe(tensor)}. " +
                "Pad it, or use the form with split sizes.", name);
    }

    /// <summary>Rows for each rank.</summary>
    /// <returns>Elements for each rank.</returns>
    public long[] RequireSplits(Tensor tensor, string name, IReadOnlyList<long> splits, string splitsName)
    {
        ArgumentNullException.ThrowIfNull(splits, splitsName);
        long[] rows = [.. splits];
        if (tensor.dim() == 0 || rows.Length != group.Size || rows.Any(count => count < 0) || rows.Sum() != tensor.shape[0])
            throw new ArgumentException(
                $"{Start}: '{splitsName}' must have {group.Size} numbers from 0 (one for each rank) whose sum is the first dimension of '{name}', which is {Describe(tensor)}; " +
                $"it is ({string.Join(", ", rows)}).", splitsName);
        var row = RowOf(tensor);
        return [.. rows.Select(count => count * row)];
    }

    public void RequireSameRows(Tensor tensor, string name, Tensor other, string otherName)
    {
        if (RowOf(tensor) != RowOf(other))
            throw new ArgumentException(
                $"{Start}: the rows of '{name}' have {RowOf(tensor)} elements ({Describe(tensor)}), those of '{otherName}' {RowOf(other)} ({Describe(other)}); they must be equal.", name);
    }

    /// <summary>Two tensors whose memory does not overlap, or where the part lies at the element <paramref name="allowed"/> of the whole.</summary>
    public void RequireApart(Tensor whole, Tensor part, long? allowed)
    {
        if (whole.numel() == 0 || part.numel() == 0 || !whole.is_contiguous() || !part.is_contiguous()) // one with strides is copied first
            return;
        var size = whole.dtype.SizeInBytes();
        long first = TensorMemory.PointerOf(whole), second = TensorMemory.PointerOf(part);
        if (second >= first + whole.numel() * size || first >= second + part.numel() * size || second - first == allowed * size)
            return;
        throw new ArgumentException(
            $"{Start}: the input and the output overlap in memory{(allowed is null ? "" : ", and not where this rank's own part lies")}. Give them memories of their own, for example with clone().");
    }

    private static long RowOf(Tensor tensor) => tensor.shape.Skip(1).Aggregate(1L, (product, size) => product * size);

    private static string Describe(Tensor tensor) => $"{tensor.dtype} of shape ({string.Join(", ", tensor.shape)})";
}
