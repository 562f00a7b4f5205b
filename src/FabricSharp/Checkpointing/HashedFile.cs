using System.IO.Hashing;
using FabricSharp.Interop.Posix;

namespace FabricSharp.Checkpointing;

/// <summary>A file that is being written; its checksum is made on the way, and the disk begins to write while more is coming.</summary>
internal sealed class HashedFile : IDisposable
{
    /// <summary>After so many bytes the disk is told to begin: else it would wait for the flush at the end.</summary>
    private const long Window = 16 << 20;

    private readonly FileStream _stream;
    private readonly XxHash128 _hash = new();
    private readonly string _name;
    private long _written, _begun;

    /// <param name="folder">An existing folder.</param>
    /// <param name="name">Not there yet.</param>
    /// <param name="size">Its size in bytes, so that a full disk is noticed before anything is written.</param>
    public HashedFile(string folder, string name, long size)
    {
        _name = name;
        _stream = new FileStream(Path.Combine(folder, name), new FileStreamOptions
        {
            Mode = FileMode.CreateNew,
            Access = FileAccess.Write,
            Share = FileShare.None,
            BufferSize = 0,
            PreallocationSize = size,
        });
    }

    public static ManifestFile Write(string folder, string name, ReadOnlySpan<byte> content)
    {
        using var file = new HashedFile(folder, name, content.Length);
        file.Write(content);
        return file.Finish();
    }

    public void Write(ReadOnlySpan<byte> bytes)
    {
        _hash.Append(bytes);
        _stream.Write(bytes);
        _written += bytes.Length;
        if (_written - _begun < Window || !PosixApi.IsSupported)
            return;
        PosixApi.BeginWriteback(_stream.SafeFileHandle, _begun, _written - _begun);
        _begun = _written;
    }

    /// <summary>Brings the file to the disk.</summary>
    public ManifestFile Finish()
    {
        _stream.Flush(flushToDisk: true);
        return new ManifestFile(_name, _stream.Length, Convert.ToHexStringLower(_hash.GetHashAndReset()));
    }

    public void Dispose() => _stream.Dispose();
}
