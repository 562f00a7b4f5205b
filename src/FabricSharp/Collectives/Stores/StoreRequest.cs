using System.Buffers;
using System.Buffers.Binary;

namespace FabricSharp.Collectives.Stores;

/// <summary>Builds one request of a client, to be sent in one piece. Checks what a server would close the connection for.</summary>
internal sealed class StoreRequest
{
    private readonly ArrayBufferWriter<byte> _bytes = new();

    public StoreRequest(StoreQuery query) => _bytes.Write([(byte)query]);

    public ReadOnlySpan<byte> Bytes => _bytes.WrittenSpan;

    /// <summary>VALIDATE and PING together: what a connection begins with.</summary>
    public static StoreRequest Handshake(uint nonce)
    {
        var request = new StoreRequest(StoreQuery.Validate).UInt32(StoreProtocol.Magic);
        request._bytes.Write([(byte)StoreQuery.Ping]);
        return request.UInt32(nonce);
    }

    public StoreRequest Int64(long value)
    {
        BinaryPrimitives.WriteInt64LittleEndian(_bytes.GetSpan(sizeof(long)), value);
        _bytes.Advance(sizeof(long));
        return this;
    }

    /// <summary>Adds a key as it is on the wire, with its prefix.</summary>
    public StoreRequest Key(string key)
    {
        var bytes = StoreProtocol.Text.GetBytes(key);
        if (bytes.Length > StoreLimits.Default.KeyBytes)
        {
            throw new ArgumentException(
                $"A key may have {StoreLimits.Default.KeyBytes} bytes of UTF-8, prefixes included; this one has {bytes.Length}: '{key[..40]}…'.",
                nameof(key));
        }

        return Int64(bytes.Length).Raw(bytes);
    }

    public StoreRequest Keys(IReadOnlyList<string> keys)
    {
        Count(keys.Count);
        foreach (var key in keys)
            Key(key);
        return CheckSize();
    }

    public StoreRequest Value(ReadOnlySpan<byte> value)
    {
        if (value.Length > StoreLimits.Default.ValueBytes)
        {
            throw new ArgumentException(
                $"A value may have {StoreLimits.Default.ValueBytes} bytes; this one has {value.Length}. "
                + "Split it over several keys, or exchange large data by a process group.",
                nameof(value));
        }

        return Int64(value.Length).Raw(value);
    }

    public StoreRequest Pairs(IReadOnlyList<string> keys, IReadOnlyList<byte[]> values)
    {
        Count(keys.Count);
        for (var i = 0; i < keys.Count; i++)
            Key(keys[i]).Value(values[i]).CheckSize();
        return this;
    }

    private void Count(int count)
    {
        if (count > StoreLimits.Default.KeysInList)
            throw new ArgumentException($"A list may have {StoreLimits.Default.KeysInList} keys; this one has {count}.", "keys");
        Int64(count);
    }

    private StoreRequest CheckSize() =>
        _bytes.WrittenCount <= StoreLimits.Default.RequestBytes
            ? this
            : throw new ArgumentException($"A request may have {StoreLimits.Default.RequestBytes} bytes. Split it into several.", "keys");

    private StoreRequest UInt32(uint value)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(_bytes.GetSpan(sizeof(uint)), value);
        _bytes.Advance(sizeof(uint));
        return this;
    }

    private StoreRequest Raw(ReadOnlySpan<byte> bytes)
    {
        _bytes.Write(bytes);
        return this;
    }
}
