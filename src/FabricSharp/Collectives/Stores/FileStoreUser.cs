using System.Globalization;
using FabricSharp.Collectives.SharedMemory;

namespace FabricSharp.Collectives.Stores;

/// <summary>
/// A user of a file store, who is known by a record: machine, process and its start. So users that ended without a word are noticed by those of the same machine, and the last one can remove the
/// file. Users of other programs count in the number of references only.
/// </summary>
internal sealed class FileStoreUser
{
    private readonly string _key;
    private readonly int? _worldSize;

    private FileStoreUser(string key, int? worldSize)
    {
        _key = key;
        _worldSize = worldSize;
    }

    public static FileStoreUser Enter(FileStoreLog log, int? worldSize)
    {
        var identity = ProcessIdentity.Current;
        var user = new FileStoreUser($"{FileStoreKey.UserPrefix}{Environment.MachineName}/{identity.Id}/{identity.StartTime}/{Guid.NewGuid():N}", worldSize);
        log.Begin(IsLeftOver, change =>
        {
            change.Set(user._key, []);
            change.Add(FileStoreKey.References, 1);
        });
        return user;
    }

    /// <summary>Leaves; removes the file as the last one. What goes wrong then is of no interest to who leaves.</summary>
    public void Leave(FileStoreLog log)
    {
        try
        {
            log.End(change =>
            {
                var left = 1;
                change.Delete(_key);
                foreach (var gone in log.Keys.Where(IsGone).ToList())
                {
                    change.Delete(gone);
                    left++;
                }

                var finished = change.Add(FileStoreKey.Finished, left);
                return change.Add(FileStoreKey.References, -left) <= 0 && finished >= (_worldSize ?? 0);
            });
        }
        catch (DistributedException)
        {
            // the file has gone, or cannot be written any more
        }
    }

    /// <summary>Whether a file is what a job left whose users were all killed: nobody will ever set what is missing there.</summary>
    private static bool IsLeftOver(FileStoreLog log)
    {
        var users = log.Keys.Where(key => key.StartsWith(FileStoreKey.UserPrefix, StringComparison.Ordinal)).ToList();
        return users.Count > 0 && users.TrueForAll(IsGone) && References(log) <= users.Count;
    }

    private static long References(FileStoreLog log) =>
        long.TryParse(log.Find(FileStoreKey.References), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var count) ? count : long.MaxValue;

    /// <summary>Whether a record is that of a process of this machine that does not run any more.</summary>
    private static bool IsGone(string key)
    {
        var parts = key.Split('/');
        return parts.Length == 5 && parts[0] + "/" == FileStoreKey.UserPrefix && parts[1] == Environment.MachineName
            && int.TryParse(parts[2], NumberStyles.None, CultureInfo.InvariantCulture, out var id)
            && long.TryParse(parts[3], NumberStyles.None, CultureInfo.InvariantCulture, out var start)
            && !new ProcessIdentity(id, start).IsAlive;
    }
}
