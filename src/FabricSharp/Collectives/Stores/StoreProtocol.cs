using System.Text;

namespace FabricSharp.Collectives.Stores;

/// <summary>The first byte of each request of PyTorch's TCPStore protocol.</summary>
internal enum StoreQuery : byte
{
    Validate = 0,
    Set = 1,
    CompareSet = 2,
    Get = 3,
    Add = 4,
    Check = 5,
    Wait = 6,
    GetNumKeys = 7,
    DeleteKey = 8,
    Append = 9,
    MultiGet = 10,
    MultiSet = 11,
    CancelWait = 12,
    Ping = 13,
    QueuePush = 14,
    QueuePop = 15,
    QueueLen = 16,
    ListKeys = 17,
}

/// <summary>
/// Constants of the wire format: integers little-endian, texts and values as a 64-bit length and their bytes, lists as a
/// 64-bit count and their elements. A request has no length of its own: its fields say where it ends.
/// </summary>
internal static class StoreProtocol
{
    public const uint Magic = 0x3C85F7CE;

    /// <summary>What the client puts before each key of the user, so that they never meet the store's own.</summary>
    public const string KeyPrefix = "/";

    /// <summary>The counter of the processes that have connected.</summary>
    public const string JoinedKey = "init/";

    public const byte CheckReady = 0;
    public const byte CheckNotReady = 1;
    public const byte WaitDone = 0;
    public const byte WaitCancelled = 1;

    /// <summary>UTF-8 that refuses half surrogate pairs: replaced, two different keys would become the same one.</summary>
    public static readonly Encoding Text = new UTF8Encoding(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);
}

/// <summary>What the server accepts before it closes a connection. The first three are those of PyTorch's libuv server.</summary>
internal sealed record StoreLimits
{
    public static readonly StoreLimits Default = new();

    /// <summary>Longest key in bytes, prefixes included.</summary>
    public int KeyBytes { get; init; } = 8192;

    /// <summary>Longest value of one request in bytes.</summary>
    public int ValueBytes { get; init; } = 8 << 20;

    /// <summary>Most keys in one list.</summary>
    public int KeysInList { get; init; } = 128 * 1024;

    /// <summary>Most bytes of one request, so that a list cannot hold 128 K values of 8 MiB.</summary>
    public long RequestBytes { get; init; } = 256L << 20;

    /// <summary>Most bytes of all keys, values and queues together.</summary>
    public long StoredBytes { get; init; } = 1L << 30;

    /// <summary>How long a new connection may take to say that it speaks this protocol.</summary>
    public TimeSpan Handshake { get; init; } = TimeSpan.FromSeconds(30);
}

/// <summary>The other side of a connection broke the protocol or exceeded a limit.</summary>
internal sealed class StoreProtocolException(string message) : Exception(message);
