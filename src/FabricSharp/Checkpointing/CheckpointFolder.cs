using Microsoft.Win32.SafeHandles;

namespace FabricSharp.Checkpointing;

/// <summary>
/// A checkpoint's files, open for reading and checked against the manifest. They stay those of one save, whatever is saved over them
/// meanwhile.
/// </summary>
internal sealed class CheckpointFolder : IDisposable
{
    /// <summary>How often a save may come in between while the files are opened.</summary>
    private const int Attempts = 50;

    private readonly string _path;
    private readonly Dictionary<string, SafeFileHandle> _files = [];
    private byte[] _manifest = [];

    private CheckpointFolder(string path) => _path = path;

    /// <summary>Opens the checkpoint; null where there is no folder but a file.</summary>
    /// <param name="place">Where it is.</param>
    /// <param name="opened">Told the name of each file once it is open: where tests come in between.</param>
    public static CheckpointFolder? Open(CheckpointPlace place, Action<string>? opened = null)
    {
        for (var attempt = 1; ; attempt++)
        {
            var path = place.Locate() ?? throw new CheckpointException($"There is no checkpoint at '{place.Path}'.");
            if (File.Exists(path))
                return null;
            var folder = new CheckpointFolder(path);
            try
            {
                folder.OpenFiles(opened);
                folder.Verify();
                return folder;
            }
            catch (CheckpointException) when (attempt < Attempts && !folder.IsStillThere(place))
            {
                folder.Dispose(); // files of two saves: it was replaced while it was opened, and the next look finds the new one
            }
            catch
            {
                folder.Dispose();
                throw;
            }
        }
    }

    /// <summary>Gives a file that the manifest lists to the caller, who disposes it.</summary>
    public SafeFileHandle Take(string name) =>
        _files.Remove(name, out var handle) ? handle : throw new CheckpointException($"'{PathOf(CheckpointManifest.FileName)}' lists no file '{name}', or it is used twice. The checkpoint is corrupt.");

    public string PathOf(string name) => Path.Combine(_path, name);

    public void Dispose()
    {
        foreach (var handle in _files.Values)
            handle.Dispose();
        _files.Clear();
    }

    private void OpenFiles(Action<string>? opened)
    {
        _manifest = ReadManifest(PathOf(CheckpointManifest.FileName));
        opened?.Invoke(CheckpointManifest.FileName);
        foreach (var file in CheckpointManifest.Parse(_manifest, PathOf(CheckpointManifest.FileName)).Files)
        {
            _files.Add(file.Name, OpenFile(PathOf(file.Name)));
            opened?.Invoke(file.Name);
        }
    }

    private static byte[] ReadManifest(string path)
    {
        try
        {
            return File.ReadAllBytes(path);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new CheckpointException($"'{Path.GetDirectoryName(path)}' is no checkpoint: it has no {CheckpointManifest.FileName}.", e);
        }
    }

    private static SafeFileHandle OpenFile(string path)
    {
        try
        {
            return File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new CheckpointException($"'{path}' is missing, although the checkpoint's manifest lists it.", e);
        }
    }

    /// <summary>Whether the manifest is the one that was read: then what is wrong with the files is not that others have taken their place.</summary>
    private bool IsStillThere(CheckpointPlace place)
    {
        try
        {
            return place.Locate() == _path && ReadManifest(PathOf(CheckpointManifest.FileName)).AsSpan().SequenceEqual(_manifest);
        }
        catch (CheckpointException)
        {
            return _manifest.Length == 0; // it was not there at first either
        }
    }

    private void Verify()
    {
        foreach (var file in CheckpointManifest.Parse(_manifest, _path).Files)
        {
            var length = RandomAccess.GetLength(_files[file.Name]);
            if (length != file.Size)
                throw new CheckpointException($"'{PathOf(file.Name)}' has {length} bytes instead of {file.Size}: it is truncated or was changed after it was saved.");
            if (!FileChecksum.Of(_files[file.Name], PathOf(file.Name), file.Size).Equals(file.XxHash128, StringComparison.OrdinalIgnoreCase))
                throw new CheckpointException($"'{PathOf(file.Name)}' is corrupt: its checksum is not the one of the manifest. It was changed after it was saved, or the disk is failing.");
        }
    }
}
