using System.Buffers.Binary;
using System.Text;

namespace FabricSharp.Collectives.Stores;

/// <summary>
/// The records of a file store and what they come to: a key's last record counts. A record is the length of the key (32 bits, little-endian), the key, the length of the value, the value.
/// For one thread at a time; processes exclude each other by the lock of the file, which is held while it is open for a change.
/// </summary>
internal sealed class FileStoreLog(string path)
{
    /// <summary>How long others may hold the lock together: each holds it for one read or one write.</summary>
    private static readonly TimeSpan LockLimit = TimeSpan.FromSeconds(60);

    /// <summary>The time from the mark of a file's removal to its removal, generously; after that, whoever marked it has been killed.</summary>
    private static readonly TimeSpan RemovalLimit = TimeSpan.FromSeconds(1);

    private static readonly TimeSpan LockPause = TimeSpan.FromMilliseconds(1);

    private readonly Dictionary<string, byte[]> _values = [];

    /// <summary>The end of the last whole record that was read.</summary>
    private long _position;

    public int Count => _values.Count;

    public IEnumerable<string> Keys => _values.Keys;

    public bool Contains(string key) => _values.ContainsKey(key);

    public byte[]? Find(string key) => _values.GetValueOrDefault(key);

    /// <summary>Reads what others have appended. Costs next to nothing when that is nothing.</summary>
    public void Refresh()
    {
        var file = new FileInfo(path);
        if (!file.Exists)
            throw Vanished(null);
        if (file.Length == _position)
            return;
        using var stream = Open(FileMode.Open, FileAccess.Read, FileShare.Read);
        ReadNew(stream);
    }

    /// <summary>Runs <paramref name="action"/> on the newest state, with nobody else at the file, and appends what it sets.</summary>
    public T Change<T>(Func<FileStoreChange, T> action)
    {
        using var stream = Open(FileMode.Open, FileAccess.ReadWrite, FileShare.None);
        return Change(stream, action);
    }

    /// <summary>As <see cref="Change{T}(Func{FileStoreChange, T})"/>, on a file that may have to be made; begins it anew if <paramref name="isLeftOver"/> says so.</summary>
    public void Begin(Func<FileStoreLog, bool> isLeftOver, Action<FileStoreChange> action)
    {
        var deadline = Deadline.After(RemovalLimit);
        while (true)
        {
            using (var stream = Open(FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None))
            {
                ReadNew(stream);
                if (!Contains(FileStoreKey.Removed))
                {
                    if (isLeftOver(this))
                        Empty(stream);
                    Change(stream, change =>
                    {
                        action(change);
                        return true;
                    });
                    return;
                }

                Forget();
                if (deadline.HasPassed)
                    File.Delete(path);
            }

            Task.Delay(LockPause).Wait();
        }
    }

    /// <summary>Runs <paramref name="action"/>, and removes the file if it says so.</summary>
    public void End(Func<FileStoreChange, bool> action)
    {
        using var stream = Open(FileMode.Open, FileAccess.ReadWrite, FileShare.None);
        var remove = Change(stream, change =>
        {
            var isLast = action(change);
            if (isLast)
                change.Set(FileStoreKey.Removed, []);
            return isLast;
        });
        if (remove)
            File.Delete(path);
    }

    private T Change<T>(FileStream stream, Func<FileStoreChange, T> action)
    {
        ReadNew(stream);
        var change = new FileStoreChange(this);
        var result = action(change);
        if (change.Records.Length == 0)
            return result;
        if (_position + change.Records.Length > StoreLimits.Default.StoredBytes)
            throw new DistributedException($"The store {path} has {_position:N0} bytes; {change.Records.Length:N0} more would exceed its limit of {StoreLimits.Default.StoredBytes:N0}. Likely something sets keys in a loop; a file store keeps every change. Next: use a TCPStore, or exchange data by a process group.");
        Append(stream, change.Records);
        foreach (var (key, value) in change.Values)
            Apply(key, value);
        _position = stream.Length;
        return result;
    }

    private void Append(FileStream stream, ReadOnlySpan<byte> records)
    {
        try
        {
            stream.SetLength(_position); // beyond it only what a killed user did not finish
            stream.Position = _position;
            stream.Write(records);
            stream.Flush();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            TryCut(stream);
            throw new DistributedException($"The store {path} could not be written: {e.Message} Likely the disk is full. Next: make room, or put the file elsewhere; the store is as it was before this call.", e);
        }
    }

    private void TryCut(FileStream stream)
    {
        try
        {
            stream.SetLength(_position);
        }
        catch (IOException)
        {
            // then it is a torn record, as a killed user leaves
        }
    }

    private void Empty(FileStream stream)
    {
        stream.SetLength(0);
        Forget();
    }

    private void Forget()
    {
        _values.Clear();
        _position = 0;
    }

    private void ReadNew(FileStream stream)
    {
        var length = stream.Length;
        if (length < _position)
            throw Vanished(null);
        stream.Position = _position;
        while (TryReadField(stream, length, StoreLimits.Default.KeyBytes + 1, out var key) && TryReadField(stream, length, StoreLimits.Default.ValueBytes, out var value))
        {
            Apply(Encoding.Latin1.GetString(key), value);
            _position = stream.Position;
        }
    }

    /// <returns>False where the file ends before the field does: a record that was not finished.</returns>
    private bool TryReadField(FileStream stream, long end, int limit, out byte[] field)
    {
        field = [];
        Span<byte> prefix = stackalloc byte[sizeof(int)];
        if (end - stream.Position < prefix.Length)
            return false;
        stream.ReadExactly(prefix);
        var length = BinaryPrimitives.ReadInt32LittleEndian(prefix);
        if (length < 0 || length > limit)
            throw new DistributedException($"{path} is not the file of a store, or is damaged: a length of {length} at byte {stream.Position - prefix.Length:N0}. Next: remove it if it is of an earlier run, or choose another path, the same on all ranks.");
        if (end - stream.Position < length)
            return false;
        field = new byte[length];
        stream.ReadExactly(field);
        return true;
    }

    private void Apply(string key, byte[]? value)
    {
        if (value is null)
            _values.Remove(key);
        else if (key.StartsWith(FileStoreKey.DeletePrefix))
            _values.Remove(key[1..]);
        else
            _values[key] = value;
    }

    /// <summary>Opens the file, with its lock; tries again while others have it.</summary>
    private FileStream Open(FileMode mode, FileAccess access, FileShare share)
    {
        var deadline = Deadline.After(LockLimit);
        while (true)
        {
            try
            {
                return new FileStream(path, mode, access, share, bufferSize: access == FileAccess.Read ? 4096 : 64 * 1024);
            }
            catch (FileNotFoundException e)
            {
                throw Vanished(e);
            }
            catch (Exception e) when (e is UnauthorizedAccessException or DirectoryNotFoundException || (e is IOException && !IsLocked(e)))
            {
                throw new DistributedException($"The store's file {path} cannot be opened: {e.Message} Next: name a file in an existing folder that all ranks can write.", e);
            }
            catch (IOException e)
            {
                if (deadline.HasPassed)
                    throw new DistributedTimeoutException($"The lock of the store's file {path} was not free within {LockLimit.TotalSeconds:0} s. Likely a process that has it is stopped, or the disk hangs. Next: look for stopped processes that have it open (`lsof`).", e);
            }

            Task.Delay(LockPause).Wait();
        }
    }

    /// <summary>EAGAIN of flock on Linux and macOS; a sharing violation on Windows.</summary>
    private static bool IsLocked(Exception e) => (e.HResult & 0xFFFF) is 11 or 35 or 32 or 33;

    private DistributedException Vanished(Exception? cause) => new(
        $"The store's file {path} was removed or replaced while it was in use. Likely another job has the same path, or something tidies the folder up. Next: choose a path for this job alone, the same on all ranks.", cause);
}
