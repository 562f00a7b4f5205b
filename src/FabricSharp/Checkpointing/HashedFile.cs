using System.Security.Cryptography;

namespace FabricSharp.Checkpointing;

/// <summary>A file that is being written; its checksum is made on the way.</summary>
internal sealed class HashedFile : IDisposable
{
    private readonly FileStream _stream;
    private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
    private readonly string _name;

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
        _stream.Write(bytes);
        _hash.AppendData(bytes);
    }

    /// <summary>Brings the file to the disk.</summary>
    public ManifestFile Finish()
    {
        _stream.Flush(flushToDisk: true);
        return new ManifestFile(_name, _stream.Length, Convert.ToHexStringLower(_hash.GetHashAndReset()));
    }

    public void Dispose()
    {
        _stream.Dispose();
        _hash.Dispose();
    }
}
