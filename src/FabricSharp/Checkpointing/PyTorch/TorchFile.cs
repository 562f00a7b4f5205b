using Microsoft.Win32.SafeHandles;
using static TorchSharp.torch;

namespace FabricSharp.Checkpointing.PyTorch;

/// <summary>
/// An open file of <c>torch.save</c>: its values are read and checked, its tensors stay on the disk until someone wants them.
/// </summary>
internal sealed class TorchFile : IDisposable
{
    /// <summary>Of the values alone, without the elements of tensors.</summary>
    public const long MaxPickleBytes = 256 << 20;

    private const int MaxMessage = 1000;

    private static readonly byte[] LegacyBeginning = [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, (byte)'.'];

    private readonly SafeFileHandle _handle;
    private readonly Dictionary<TorchStorage, Tensor> _shared = new(ReferenceEqualityComparer.Instance);

    private TorchFile(string path, SafeFileHandle handle, string format, object? root)
    {
        Path = path;
        _handle = handle;
        Format = format;
        Root = root;
    }

    public string Path { get; }

    /// <summary>In words.</summary>
    public string Format { get; }

    /// <summary>What was saved; see <see cref="PickleMachine.Run"/>, with <see cref="TensorReference"/> for tensors.</summary>
    public object? Root { get; }

    /// <summary>Files of before 1.6 have none.</summary>
    public bool HasCheckSums { get; private init; }

    /// <summary>Whether the file is to be read as one of PyTorch's, going by its first bytes.</summary>
    public static bool IsOne(SafeFileHandle handle)
    {
        Span<byte> start = stackalloc byte[9];
        var count = RandomAccess.Read(handle, start, 0);
        if (count >= 4 && start.StartsWith("PK\u0003\u0004"u8))
            return true;
        // The length of a safetensors header can begin with these bytes, too; then a '{' follows after it.
        return count >= 2 && start[0] == 0x80 && start[1] is >= 2 and <= 5 && !(count == start.Length && start[8] == '{');
    }

    /// <param name="path">For messages.</param>
    /// <param name="handle">The open file; disposed with the result, and when opening fails.</param>
    /// <param name="checkSums">Whether to read everything once, to compare it with the checksums of the zip file.</param>
    /// <exception cref="CheckpointException">It is broken, or holds something that is not read.</exception>
    public static TorchFile Open(string path, SafeFileHandle handle, bool checkSums)
    {
        try
        {
            Span<byte> start = stackalloc byte[LegacyBeginning.Length];
            var count = RandomAccess.Read(handle, start, 0);
            var (format, root) = start.StartsWith("PK"u8)
                ? TorchZip.Read(handle, path, checkSums)
                : start[..count].SequenceEqual(LegacyBeginning)
                    ? LegacyTorchFile.Read(handle, path)
                    : throw new FormatException("it is a pickle, but not one of torch.save. In Python, save what is needed with torch.save or safetensors");
            return new TorchFile(path, handle, format, root) { HasCheckSums = start.StartsWith("PK"u8) };
        }
        catch (Exception e)
        {
            handle.Dispose();
            if (e is FormatException)
                throw new CheckpointException($"'{path}' cannot be read as a file of PyTorch: {Readable(e.Message)}.", e);
            throw;
        }
    }

    /// <summary>A message with names of a stranger's file in it: on one line, not endless, and without what a terminal would obey.</summary>
    public static string Readable(string text) => new([.. text.Take(MaxMessage).Select(c => char.IsControl(c) ? '?' : c)]);

    /// <summary>Overwrites a tensor of the same type and shape in place.</summary>
    public void Read(string name, TensorReference tensor, Tensor target)
    {
        if (tensor.IsContiguous)
        {
            TensorBytes.Read(Stored(name, tensor), _handle, Path, target);
            return;
        }

        using var scope = NewDisposeScope();
        using var gradientsOff = no_grad();
        var extent = Load(name, tensor, tensor.Start, tensor.Extent);
        target.copy_(extent.as_strided(tensor.Shape, tensor.Strides, 0));
    }

    /// <summary>A new tensor; tensors that share memory in the file share it again.</summary>
    public Tensor Read(string name, TensorReference tensor)
    {
        if (tensor.Storage.Uses > 1 && tensor.Length > 0)
        {
            if (!_shared.TryGetValue(tensor.Storage, out var whole))
                _shared.Add(tensor.Storage, whole = Load(name, tensor, tensor.Storage.Offset, tensor.Storage.Bytes / tensor.Element.Size).DetachFromDisposeScope());
            if (whole.dtype == tensor.Element.Type)
                return whole.as_strided(tensor.Shape, tensor.Strides, tensor.Offset);
        }

        var target = empty(tensor.Shape, tensor.Element.Type);
        Read(name, tensor, target);
        return target;
    }

    /// <summary>The number that a tensor without dimensions holds. Needs no libtorch.</summary>
    public object? ReadNumber(TensorReference tensor)
    {
        var bytes = new byte[tensor.Element.Size];
        TensorBytes.ReadExactly(_handle, Path, bytes, tensor.Start);
        return tensor.Element.Type switch
        {
            ScalarType.Float32 => (double)BitConverter.ToSingle(bytes),
            ScalarType.Float64 => BitConverter.ToDouble(bytes),
            ScalarType.Int64 => BitConverter.ToInt64(bytes),
            ScalarType.Int32 => (long)BitConverter.ToInt32(bytes),
            _ => null,
        };
    }

    /// <summary>Writes the elements in row-major order.</summary>
    public void CopyTo(string name, TensorReference tensor, HashedFile destination)
    {
        if (tensor.IsContiguous)
            TensorBytes.Copy(Stored(name, tensor), _handle, Path, destination);
        else
            StridedBytes.Copy(Stored(name, tensor), tensor, _handle, Path, destination);
    }

    public static StoredTensor Stored(string name, TensorReference tensor) => new(name, tensor.Element.Type, tensor.Shape, tensor.Start, tensor.Length);

    public void Dispose()
    {
        foreach (var tensor in _shared.Values)
            tensor.Dispose();
        _shared.Clear();
        _handle.Dispose();
    }

    private Tensor Load(string name, TensorReference tensor, long start, long elements)
    {
        var flat = empty([elements], tensor.Element.Type);
        TensorBytes.Read(new StoredTensor(name, tensor.Element.Type, [elements], start, elements * tensor.Element.Size), _handle, Path, flat);
        return flat;
    }
}
