using System.Buffers.Binary;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace FabricSharp.Checkpointing.PyTorch;

/// <summary>A file inside a zip file.</summary>
/// <param name="Name">With its folders.</param>
/// <param name="Offset">Position of its first byte, from the start of the zip file.</param>
/// <param name="Length">In bytes.</param>
/// <param name="Crc">0 where the writer left it out.</param>
internal sealed record ZipEntry(string Name, long Offset, long Length, uint Crc);

/// <summary>
/// What a zip file says that it holds. Only what <c>torch.save</c> writes is read: nothing compressed (so that nothing can swell), nothing
/// encrypted, one part. Nothing is ever unpacked to the disk.
/// </summary>
internal static class ZipDirectory
{
    private const uint LocalSignature = 0x04034b50;
    private const uint CentralSignature = 0x02014b50;
    private const uint EndSignature = 0x06054b50;
    private const uint End64Signature = 0x06064b50;
    private const uint Locator64Signature = 0x07064b50;
    private const int LocalSize = 30;
    private const int CentralSize = 46;
    private const int EndSize = 22;
    private const int End64Size = 56;
    private const int Locator64Size = 20;
    private const int MaxCommentBytes = ushort.MaxValue;
    private const int MaxEntries = 1_000_000;
    private const int MaxDirectoryBytes = 128 << 20;
    private const int MaxNameBytes = 1024;

    private static readonly UTF8Encoding Utf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <exception cref="FormatException">The file is broken, or of a kind that torch does not write.</exception>
    public static IReadOnlyDictionary<string, ZipEntry> Read(SafeFileHandle handle, string path)
    {
        var length = RandomAccess.GetLength(handle);
        var (start, size, count) = FindDirectory(handle, path, length);
        if (start < 0 || size < 0 || start > length - size || size > MaxDirectoryBytes || count < 0 || count > MaxEntries || count * CentralSize > size)
            throw new FormatException($"its directory would have {count} entries in {size} bytes at byte {start} of {length}");
        var directory = new byte[size];
        TensorBytes.ReadExactly(handle, path, directory, start);
        var entries = new Dictionary<string, ZipEntry>((int)Math.Min(count, 1024), StringComparer.Ordinal);
        var position = 0;
        for (var i = 0L; i < count; i++)
        {
            var (name, local, bytes, crc) = ReadEntry(directory, ref position);
            if (!entries.TryAdd(name, Locate(handle, path, name, local, bytes, crc, start)))
                throw new FormatException($"it holds '{name}' twice");
        }

        RequireApart(entries.Values);
        return entries;
    }

    private static (long Start, long Size, long Count) FindDirectory(SafeFileHandle handle, string path, long length)
    {
        var tail = new byte[(int)Math.Min(length, EndSize + MaxCommentBytes)];
        TensorBytes.ReadExactly(handle, path, tail, length - tail.Length);
        for (var i = tail.Length - EndSize; i >= 0; i--)
            if (U32(tail, i) == EndSignature && U16(tail, i + 20) == tail.Length - i - EndSize)
                return ReadEnd(handle, path, tail.AsSpan(i), length - tail.Length + i);
        throw new FormatException("it begins like a zip file, but the end of one is missing: it is truncated");
    }

    private static (long Start, long Size, long Count) ReadEnd(SafeFileHandle handle, string path, ReadOnlySpan<byte> end, long endPosition)
    {
        if (U16(end, 4) is not (0 or ushort.MaxValue) || U16(end, 6) is not (0 or ushort.MaxValue))
            throw new FormatException("it is one part of a zip file of several");
        var locator = new byte[Locator64Size];
        if (endPosition < Locator64Size + End64Size)
            return (U32(end, 16), U32(end, 12), U16(end, 10));
        TensorBytes.ReadExactly(handle, path, locator, endPosition - Locator64Size);
        if (U32(locator, 0) != Locator64Signature)
            return (U32(end, 16), U32(end, 12), U16(end, 10));
        var position = I64(locator, 8);
        if (position < 0 || position > endPosition - Locator64Size - End64Size)
            throw new FormatException($"its zip64 end would be at byte {position}");
        var end64 = new byte[End64Size];
        TensorBytes.ReadExactly(handle, path, end64, position);
        if (U32(end64, 0) != End64Signature)
            throw new FormatException($"its zip64 end is not at byte {position}");
        return (I64(end64, 48), I64(end64, 40), I64(end64, 32));
    }

    private static (string Name, long Local, long Bytes, uint Crc) ReadEntry(ReadOnlySpan<byte> directory, ref int position)
    {
        var rest = directory[position..];
        if (rest.Length < CentralSize || U32(rest, 0) != CentralSignature)
            throw new FormatException($"its directory is broken at byte {position}");
        var (nameBytes, extraBytes, commentBytes) = (U16(rest, 28), U16(rest, 30), U16(rest, 32));
        if (rest.Length < CentralSize + nameBytes + extraBytes + commentBytes)
            throw new FormatException($"its directory is broken at byte {position}");
        position += CentralSize + nameBytes + extraBytes + commentBytes;
        var name = NameOf(rest.Slice(CentralSize, nameBytes));
        if ((U16(rest, 8) & 0x2041) != 0)
            throw new FormatException($"'{name}' in it is encrypted");
        if (U16(rest, 10) != 0)
            throw new FormatException($"'{name}' in it is compressed (method {U16(rest, 10)}), which torch.save never does. Pack it again without compression");
        long packed = U32(rest, 20), unpacked = U32(rest, 24), local = U32(rest, 42);
        ReadZip64(rest.Slice(CentralSize + nameBytes, extraBytes), name, ref unpacked, ref packed, ref local);
        if (packed != unpacked)
            throw new FormatException($"'{name}' in it has {packed} bytes and claims to be {unpacked}");
        return (name, local, unpacked, U32(rest, 16));
    }

    private static string NameOf(ReadOnlySpan<byte> bytes)
    {
        string name;
        try
        {
            name = bytes.Length <= MaxNameBytes ? Utf8.GetString(bytes) : throw new FormatException($"a name in it has {bytes.Length} bytes");
        }
        catch (DecoderFallbackException)
        {
            throw new FormatException("a name in it is not UTF-8");
        }

        var folderless = name.EndsWith('/') ? name[..^1] : name; // of a folder, which repacked files have
        if (name.Any(c => c is '\\' || char.IsControl(c)) || folderless.Split('/').Any(part => part is ".." or "." or ""))
            throw new FormatException($"the name '{new string([.. name.Select(c => char.IsControl(c) ? '?' : c)])}' in it leads elsewhere. Nothing was unpacked");
        return name;
    }

    private static void ReadZip64(ReadOnlySpan<byte> extra, string name, ref long unpacked, ref long packed, ref long local)
    {
        while (extra.Length >= 4)
        {
            var size = U16(extra, 2);
            if (size > extra.Length - 4)
                break;
            var field = extra.Slice(4, size);
            var at = 0;
            if (U16(extra, 0) == 1)
            {
                Widen(ref unpacked, field, ref at, name);
                Widen(ref packed, field, ref at, name);
                Widen(ref local, field, ref at, name);
            }

            extra = extra[(4 + size)..];
        }
    }

    private static void Widen(ref long value, ReadOnlySpan<byte> field, ref int at, string name)
    {
        if (value != uint.MaxValue)
            return;
        if (field.Length - at < 8)
            throw new FormatException($"the sizes of '{name}' in it are cut off");
        value = I64(field, at);
        at += 8;
    }

    private static ZipEntry Locate(SafeFileHandle handle, string path, string name, long local, long length, uint crc, long directoryStart)
    {
        Span<byte> header = stackalloc byte[LocalSize + MaxNameBytes];
        var nameBytes = Utf8.GetByteCount(name);
        header = header[..(LocalSize + nameBytes)];
        if (local < 0 || length < 0 || local > directoryStart - header.Length || length > directoryStart)
            throw new FormatException($"'{name}' in it would have {length} bytes from byte {local} on of {directoryStart}");
        TensorBytes.ReadExactly(handle, path, header, local);
        if (U32(header, 0) != LocalSignature || U16(header, 26) != nameBytes || !header[LocalSize..].SequenceEqual(Utf8.GetBytes(name)))
            throw new FormatException($"'{name}' is not where its directory says");
        var start = local + LocalSize + nameBytes + U16(header, 28);
        if (start > directoryStart - length)
            throw new FormatException($"'{name}' in it would have {length} bytes from byte {start} on of {directoryStart}");
        return new ZipEntry(name, start, length, crc);
    }

    /// <summary>Files that share bytes are a way to make much out of little.</summary>
    private static void RequireApart(IEnumerable<ZipEntry> entries)
    {
        var end = 0L;
        foreach (var entry in entries.Where(entry => entry.Length > 0).OrderBy(entry => entry.Offset))
        {
            if (entry.Offset < end)
                throw new FormatException($"'{entry.Name}' in it overlaps the one before it");
            end = entry.Offset + entry.Length;
        }
    }

    private static int U16(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt16LittleEndian(bytes[at..]);

    private static uint U32(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt32LittleEndian(bytes[at..]);

    private static long I64(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadInt64LittleEndian(bytes[at..]);
}
