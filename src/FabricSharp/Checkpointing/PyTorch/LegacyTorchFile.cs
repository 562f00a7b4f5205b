using System.Buffers.Binary;
using Microsoft.Win32.SafeHandles;

namespace FabricSharp.Checkpointing.PyTorch;

/// <summary>
/// What <c>torch.save</c> wrote before PyTorch 1.6: five pickles (a magic number, the protocol, the machine, the values, the keys of the storages),
/// then each storage as its number of elements (8 bytes) and its elements.
/// </summary>
internal sealed class LegacyTorchFile
{
    private const long Protocol = 1001;

    private readonly SafeFileHandle _handle;
    private readonly string _path;
    private readonly long _length;
    private readonly Dictionary<string, TorchStorage> _storages = [];
    private readonly List<(TorchStorage View, TorchStorage Root, long First)> _views = [];
    private readonly Dictionary<string, TorchStorage> _viewsByKey = [];
    private long _position;

    private LegacyTorchFile(SafeFileHandle handle, string path)
    {
        _handle = handle;
        _path = path;
        _length = RandomAccess.GetLength(handle);
    }

    public static (string Format, object? Root) Read(SafeFileHandle handle, string path)
    {
        var file = new LegacyTorchFile(handle, path);
        file.ReadPickle(); // the magic number, by which the file was recognised
        if (file.ReadPickle() is not Protocol)
            throw new FormatException($"its protocol is not {Protocol}");
        file.RequireLittleEndian();
        var root = file.ReadPickle();
        file.PlaceStorages(file.ReadPickle());
        return ($"PyTorch file of before 1.6, protocol {Protocol}", root);
    }

    private object? ReadPickle()
    {
        var source = new PickleSource((buffer, position) => TensorBytes.ReadExactly(_handle, _path, buffer, position), _position, Math.Min(_length, _position + TorchFile.MaxPickleBytes));
        var value = new PickleMachine(source, Storage).Run();
        _position = source.Position;
        return value;
    }

    private void RequireLittleEndian()
    {
        if (ReadPickle() is not PickleDict system || !system.Items.Exists(item => item is { Key: "little_endian", Value: true }))
            throw new FormatException("its byte order is not 'little', which alone is read. Save it again on an ordinary machine");
    }

    private TorchStorage Storage(object? reference)
    {
        if (reference is not PickleTuple { Items: ["storage", PickleGlobal { Element: { } element }, string key, string, long count, var view] })
            throw new FormatException("its pickle refers to something that is no storage");
        // Its elements lie in this file, after a count of them each.
        if (count < 0 || count > (_length - _position) / element.Size)
            throw new FormatException($"the storage '{key}' of {count} elements does not fit into a file of {_length} bytes");
        if (!_storages.TryGetValue(key, out var root))
            _storages.Add(key, root = new TorchStorage(key, element, count));
        if (root.Element != element || root.Count != count)
            throw new FormatException($"the storage '{key}' is of two types or sizes");
        return view switch
        {
            null => root,
            PickleTuple { Items: [string viewKey, long first, long size] } => View(root, viewKey, first, size),
            _ => throw new FormatException($"the part of the storage '{key}' makes no sense"),
        };
    }

    private TorchStorage View(TorchStorage root, string key, long first, long size)
    {
        if (first < 0 || size < 0 || first > root.Count - size)
            throw new FormatException($"a part of the storage '{root.Key}' would have {size} elements from {first} on of {root.Count}");
        if (_viewsByKey.TryGetValue(key, out var known))
            return known.Element == root.Element && known.Count == size ? known : throw new FormatException($"the storage '{key}' is of two types or sizes");
        var view = new TorchStorage(key, root.Element, size);
        _viewsByKey.Add(key, view);
        _views.Add((view, root, first));
        return view;
    }

    private void PlaceStorages(object? keys)
    {
        if (keys is not PickleList list)
            throw new FormatException("the list of its storages is missing");
        var placed = new HashSet<string>();
        Span<byte> prefix = stackalloc byte[8];
        foreach (var item in list.Items)
        {
            if (item is not string key || !_storages.TryGetValue(key, out var storage) || !placed.Add(key))
                throw new FormatException("the list of its storages names something else, or one of them twice");
            if (_position > _length - prefix.Length)
                throw new FormatException($"it ends before the storage '{key}': it is truncated");
            TensorBytes.ReadExactly(_handle, _path, prefix, _position);
            storage.Offset = _position += prefix.Length;
            if (BinaryPrimitives.ReadInt64LittleEndian(prefix) != storage.Count || storage.Bytes > _length - _position)
                throw new FormatException($"the storage '{key}' has {BinaryPrimitives.ReadInt64LittleEndian(prefix)} elements of {storage.Count}, in the {_length - _position} bytes left: it is truncated or corrupt");
            _position += storage.Bytes;
        }

        if (_storages.Keys.FirstOrDefault(key => !placed.Contains(key)) is { } missing)
            throw new FormatException($"the storage '{missing}' is missing");
        foreach (var (view, root, first) in _views)
            view.Offset = root.Offset + (first * root.Element!.Size);
    }
}
