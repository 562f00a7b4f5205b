using System.IO.MemoryMappedFiles;

namespace FabricSharp.Collectives.SharedMemory;

/// <summary>
/// A file that several processes map. Its pages are reserved when it is made, so that a full file system is an error here and not a
/// crash at first touch. Only the owner may read it (mode 0600); its name is unlinked as soon as everyone has mapped it.
/// </summary>
internal sealed unsafe class SharedMemorySegment : IDisposable
{
    private readonly MemoryMappedFile _file;
    private readonly MemoryMappedViewAccessor _view;
    private readonly byte* _pointer;
    private int _disposed;

    private SharedMemorySegment(string path, MemoryMappedFile file, long length)
    {
        Path = path;
        Length = length;
        _file = file;
        _view = file.CreateViewAccessor(0, length, MemoryMappedFileAccess.ReadWrite);
        byte* pointer = null;
        _view.SafeMemoryMappedViewHandle.AcquirePointer(ref pointer);
        _pointer = pointer;
    }

    public string Path { get; }

    public long Length { get; }

    public byte* Pointer => _pointer;

    /// <summary>Makes the file; it must not exist. Its content is zero.</summary>
    public static SharedMemorySegment Create(string path, long length)
    {
        var options = new FileStreamOptions
        {
            Mode = FileMode.CreateNew,
            Access = FileAccess.ReadWrite,
            Share = FileShare.ReadWrite | FileShare.Delete,
            PreallocationSize = length,
        };
        if (!OperatingSystem.IsWindows())
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        FileStream stream;
        try
        {
            stream = new FileStream(path, options);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new DistributedException(
                $"Could not reserve {length:N0} bytes of shared memory at {path}: {e.Message} " +
                $"{SharedMemoryDirectory.Describe(path)} In a container raise it, for example with --shm-size=1g, or set " +
                $"{SharedMemoryDirectory.Variable} to a folder with room.", e);
        }

        stream.SetLength(length);
        return Map(path, stream, length);
    }

    /// <summary>Makes the file in the usual folder or, where that has no room, in the other.</summary>
    public static (SharedMemorySegment Segment, bool IsElsewhere) CreateIn(SharedMemoryFolders folders, string name, long length)
    {
        try
        {
            return (Create(System.IO.Path.Combine(folders.Main, name), length), false);
        }
        catch (DistributedException) when (folders.Fallback is not null)
        {
            return (Create(System.IO.Path.Combine(folders.Fallback, name), length), true);
        }
    }

    /// <summary>Maps a file that another rank made.</summary>
    public static SharedMemorySegment Open(string path, long length)
    {
        FileStream stream;
        try
        {
            stream = new FileStream(path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new DistributedException(
                $"Could not open the shared memory {path} of another rank: {e.Message} The shm back end needs all ranks on one machine, " +
                "in one container, under one user.", e);
        }

        if (stream.Length == length)
            return Map(path, stream, length);
        var actual = stream.Length;
        stream.Dispose();
        throw new DistributedException($"The shared memory {path} has {actual:N0} bytes instead of {length:N0}: the ranks do not run the same version, or the file is not ours.");
    }

    /// <summary>Keeps the mapping alive until <see cref="EndHold"/>, also when it is disposed meanwhile.</summary>
    /// <returns>False when it is disposed already.</returns>
    public bool TryHold()
    {
        var held = false;
        try
        {
            _view.SafeMemoryMappedViewHandle.DangerousAddRef(ref held);
        }
        catch (ObjectDisposedException)
        {
            // held stays false
        }

        return held;
    }

    public void EndHold() => _view.SafeMemoryMappedViewHandle.DangerousRelease();

    /// <summary>Removes the name; mappings stay valid.</summary>
    public void Unlink()
    {
        try
        {
            File.Delete(Path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Where a mapped file cannot be deleted (Windows), it goes with the temporary folder.
        }
    }

    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
            return;
        _view.SafeMemoryMappedViewHandle.ReleasePointer();
        _view.Dispose();
        _file.Dispose();
    }

    private static SharedMemorySegment Map(string path, FileStream stream, long length)
    {
        var file = MemoryMappedFile.CreateFromFile(stream, null, length, MemoryMappedFileAccess.ReadWrite, HandleInheritability.None, leaveOpen: false);
        return new SharedMemorySegment(path, file, length);
    }
}
