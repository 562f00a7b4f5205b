using System.Text;

namespace FabricSharp.Collectives.Stores;

/// <summary>Keys as a file store's records have them. As text every byte is one character, so that any key of another program stays what it is.</summary>
internal static class FileStoreKey
{
    /// <summary>Before a key that is deleted by its record.</summary>
    public const char DeletePrefix = '-';

    /// <summary>How many use the file.</summary>
    public const string References = "refcount/";

    /// <summary>How many have left.</summary>
    public const string Finished = "cleanup/";

    /// <summary>Before each user of this library: machine, process, its start, a random number.</summary>
    public const string UserPrefix = "user/";

    /// <summary>The last record of a file whose last user is about to remove it: whoever finds it opens the path again.</summary>
    public const string Removed = "removed/";

    /// <summary>A user's key, which none of the store's own can be.</summary>
    /// <exception cref="ArgumentException">It is too long.</exception>
    public static string Of(string key)
    {
        ArgumentNullException.ThrowIfNull(key);
        var bytes = StoreProtocol.Text.GetBytes(StoreProtocol.KeyPrefix + key);
        return bytes.Length <= StoreLimits.Default.KeyBytes
            ? Encoding.Latin1.GetString(bytes)
            : throw new ArgumentException($"A key may have {StoreLimits.Default.KeyBytes - 1} bytes of UTF-8, prefixes included; this one has {bytes.Length - 1}: '{key[..40]}…'.", nameof(key));
    }
}
