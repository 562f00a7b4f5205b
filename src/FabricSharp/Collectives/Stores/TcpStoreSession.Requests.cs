using System.Text;

namespace FabricSharp.Collectives.Stores;

/// <content>The requests, one method each where a line does not do.</content>
internal sealed partial class TcpStoreSession
{
    private async Task HandleAsync(StoreQuery query)
    {
        switch (query)
        {
            case StoreQuery.Set:
                _table.Set(await ReadKeyAsync().ConfigureAwait(false), await ReadValueAsync().ConfigureAwait(false));
                break;
            case StoreQuery.CompareSet:
                await CompareSetAsync().ConfigureAwait(false);
                break;
            case StoreQuery.Get:
                await WriteValueAsync(_table.Find(await ReadKeyAsync().ConfigureAwait(false))).ConfigureAwait(false);
                break;
            case StoreQuery.Add:
                _writer.WriteInt64(_table.Add(
                    await ReadKeyAsync().ConfigureAwait(false), await _reader.ReadInt64Async(_stop).ConfigureAwait(false)));
                break;
            case StoreQuery.Check:
                var ready = _table.ContainsAll(await ReadKeysAsync().ConfigureAwait(false));
                _writer.WriteByte(ready ? StoreProtocol.CheckReady : StoreProtocol.CheckNotReady);
                break;
            case StoreQuery.Wait:
                await WaitAsync().ConfigureAwait(false);
                break;
            case StoreQuery.GetNumKeys:
                _writer.WriteInt64(_table.Count);
                break;
            case StoreQuery.DeleteKey:
                _writer.WriteInt64(_table.Delete(await ReadKeyAsync().ConfigureAwait(false)) ? 1 : 0);
                break;
            case StoreQuery.Append:
                _table.Append(await ReadKeyAsync().ConfigureAwait(false), await ReadValueAsync().ConfigureAwait(false));
                break;
            case StoreQuery.MultiGet:
                await MultiGetAsync().ConfigureAwait(false);
                break;
            case StoreQuery.MultiSet:
                await MultiSetAsync().ConfigureAwait(false);
                break;
            case StoreQuery.CancelWait:
                // The wait has ended by itself just before; the client counts on an answer all the same.
                _writer.WriteByte(StoreProtocol.WaitCancelled);
                break;
            case StoreQuery.Ping:
                _writer.WriteUInt32(await _reader.ReadUInt32Async(_stop).ConfigureAwait(false));
                break;
            case StoreQuery.QueuePush:
                _table.Push(await ReadKeyAsync().ConfigureAwait(false), await ReadValueAsync().ConfigureAwait(false));
                break;
            case StoreQuery.QueuePop:
                await QueuePopAsync().ConfigureAwait(false);
                break;
            case StoreQuery.QueueLen:
                _writer.WriteInt64(_table.QueueLength(await ReadKeyAsync().ConfigureAwait(false)));
                break;
            case StoreQuery.ListKeys:
                await ListKeysAsync().ConfigureAwait(false);
                break;
            default:
                throw new StoreProtocolException($"Unknown or misplaced request {query}.");
        }
    }

    private async Task CompareSetAsync()
    {
        var key = await ReadKeyAsync().ConfigureAwait(false);
        var expected = await ReadValueAsync().ConfigureAwait(false);
        var desired = await ReadValueAsync().ConfigureAwait(false);
        await WriteValueAsync(_table.CompareSet(key, expected, desired)).ConfigureAwait(false);
    }

    private async Task MultiGetAsync()
    {
        foreach (var value in _table.FindAll(await ReadKeysAsync().ConfigureAwait(false)))
            await WriteValueAsync(value).ConfigureAwait(false);
    }

    private async Task MultiSetAsync()
    {
        var count = await ReadCountAsync().ConfigureAwait(false);
        var keys = new List<string>();
        var values = new List<byte[]>();
        long bytes = 0;
        for (var i = 0; i < count; i++)
        {
            keys.Add(await ReadKeyAsync().ConfigureAwait(false));
            values.Add(await ReadValueAsync().ConfigureAwait(false));
            bytes = CountBytes(bytes, keys[i].Length + values[i].Length);
        }

        _table.SetAll(keys, values);
    }

    private async Task QueuePopAsync()
    {
        var (length, item) = _table.Pop(await ReadKeyAsync().ConfigureAwait(false));
        _writer.WriteInt64(length);
        if (item is not null)
            await WriteValueAsync(item).ConfigureAwait(false);
    }

    private async Task ListKeysAsync()
    {
        var keys = _table.Keys();
        _writer.WriteInt64(keys.Length);
        foreach (var key in keys)
            await WriteValueAsync(Encoding.Latin1.GetBytes(key)).ConfigureAwait(false);
    }

    private async Task<List<string>> ReadKeysAsync()
    {
        var count = await ReadCountAsync().ConfigureAwait(false);
        var keys = new List<string>();
        long bytes = 0;
        for (var i = 0; i < count; i++)
        {
            keys.Add(await ReadKeyAsync().ConfigureAwait(false));
            bytes = CountBytes(bytes, keys[i].Length);
        }

        return keys;
    }

    private long CountBytes(long before, int more) =>
        before + more <= _limits.RequestBytes
            ? before + more
            : throw new StoreProtocolException($"The request exceeds {_limits.RequestBytes} bytes.");

    // Keys are bytes to the server: Latin-1 keeps any of them as they are, valid UTF-8 or not.
    private async ValueTask<string> ReadKeyAsync() =>
        Encoding.Latin1.GetString(await _reader.ReadBytesAsync(_limits.KeyBytes, _stop).ConfigureAwait(false));

    private ValueTask<byte[]> ReadValueAsync() => _reader.ReadBytesAsync(_limits.ValueBytes, _stop);

    private ValueTask<int> ReadCountAsync() => _reader.ReadLengthAsync(_limits.KeysInList, _stop);

    private ValueTask WriteValueAsync(byte[]? value) => _writer.WriteBytesAsync(value ?? [], _stop);
}
