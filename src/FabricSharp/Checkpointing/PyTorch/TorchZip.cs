using System.Text;
using Microsoft.Win32.SafeHandles;

namespace FabricSharp.Checkpointing.PyTorch;

/// <summary>What <c>torch.save</c> writes since PyTorch 1.6: a zip file with the pickle as <c>data.pkl</c> and each storage as <c>data/KEY</c>, all in one folder.</summary>
internal static class TorchZip
{
    private const int Piece = 1 << 20;
    private const int MaxSmallFile = 64;

    public static (string Format, object? Root) Read(SafeFileHandle handle, string path, bool checkSums)
    {
        var entries = ZipDirectory.Read(handle, path);
        var pickle = FindPickle(entries);
        var folder = pickle.Name[..^"data.pkl".Length];
        if (Text(entries, folder + "byteorder", handle, path) is { } order && order != "little")
            throw new FormatException($"its byte order is '{order}', only 'little' is read. Save it again on an ordinary machine");
        var version = Text(entries, folder + "version", handle, path) ?? Text(entries, folder + ".data/version", handle, path) ?? "?";
        foreach (var entry in entries.Values.Where(entry => checkSums || entry == pickle))
            RequireCrc(handle, path, entry);
        if (pickle.Length > TorchFile.MaxPickleBytes)
            throw new FormatException($"its values take {pickle.Length} bytes without the tensors, more than {TorchFile.MaxPickleBytes}");
        var storages = new Dictionary<string, TorchStorage>();
        var source = new PickleSource((buffer, position) => TensorBytes.ReadExactly(handle, path, buffer, position), pickle.Offset, pickle.Offset + pickle.Length);
        var root = new PickleMachine(source, reference => Storage(reference, folder, entries, storages)).Run();
        return ($"PyTorch zip file, version {version}", root);
    }

    private static ZipEntry FindPickle(IReadOnlyDictionary<string, ZipEntry> entries)
    {
        var pickles = entries.Values.Where(entry => entry.Name.EndsWith("/data.pkl", StringComparison.Ordinal) && entry.Name.Count(c => c == '/') == 1).ToList();
        if (pickles.Count != 1)
            throw new FormatException($"it is a zip file with {pickles.Count} files FOLDER/data.pkl instead of one, so not one of torch.save");
        var folder = pickles[0].Name[..^"data.pkl".Length];
        if (entries.ContainsKey(folder + "constants.pkl"))
            throw new FormatException("it is a TorchScript program (torch.jit.save), not a checkpoint. Load it with torch.jit.load, and save its state_dict() with torch.save or safetensors in Python");
        return pickles[0];
    }

    private static string? Text(IReadOnlyDictionary<string, ZipEntry> entries, string name, SafeFileHandle handle, string path)
    {
        if (!entries.TryGetValue(name, out var entry))
            return null;
        if (entry.Length > MaxSmallFile)
            throw new FormatException($"'{name}' in it has {entry.Length} bytes");
        var bytes = new byte[entry.Length];
        TensorBytes.ReadExactly(handle, path, bytes, entry.Offset);
        return new string([.. Encoding.Latin1.GetString(bytes).Trim().Select(c => char.IsControl(c) ? '?' : c)]);
    }

    private static void RequireCrc(SafeFileHandle handle, string path, ZipEntry entry)
    {
        if (entry.Crc == 0)
            return; // the writer left it out
        var buffer = new byte[(int)Math.Min(Piece, entry.Length)];
        var crc = 0u;
        for (var done = 0L; done < entry.Length;)
        {
            var piece = buffer.AsSpan(0, (int)Math.Min(buffer.Length, entry.Length - done));
            TensorBytes.ReadExactly(handle, path, piece, entry.Offset + done);
            crc = Crc32.Append(crc, piece);
            done += piece.Length;
        }

        if (crc != entry.Crc)
            throw new FormatException($"'{entry.Name}' in it is corrupt: its checksum is {crc:x8} instead of {entry.Crc:x8}. It was changed after it was saved, or the disk is failing");
    }

    private static TorchStorage Storage(object? reference, string folder, IReadOnlyDictionary<string, ZipEntry> entries, Dictionary<string, TorchStorage> storages)
    {
        if (reference is not PickleTuple { Items: ["storage", PickleGlobal type, string key, string, long count] })
            throw new FormatException("its pickle refers to something that is no storage");
        if (type.Element is null && type.Name != "torch.storage.UntypedStorage")
            throw new FormatException($"its pickle refers to a storage of the type {type.Name}");
        if (!entries.TryGetValue($"{folder}data/{key}", out var entry))
            throw new FormatException($"the storage '{key}' is missing");
        var size = type.Element?.Size ?? 1;
        if (count < 0 || count != entry.Length / size || entry.Length % size != 0)
            throw new FormatException($"the storage '{key}' has {entry.Length} bytes, and {count} elements of {type.Name} are to be in it");
        if (!storages.TryGetValue(key, out var storage))
            storages.Add(key, storage = new TorchStorage(key, type.Element, count) { Offset = entry.Offset });
        if (storage.Element != type.Element)
            throw new FormatException($"the storage '{key}' is of two types");
        return storage;
    }
}
