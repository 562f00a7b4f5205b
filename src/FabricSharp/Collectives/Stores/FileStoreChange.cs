using System.Buffers;
using System.Buffers.Binary;
using System.Globalization;
using System.Text;

namespace FabricSharp.Collectives.Stores;

/// <summary>What one call changes, to be appended in one write.</summary>
internal sealed class FileStoreChange(FileStoreLog log)
{
    private readonly ArrayBufferWriter<byte> _records = new();

    /// <summary>New values; null: deleted.</summary>
    private readonly Dictionary<string, byte[]?> _values = [];

    public ReadOnlySpan<byte> Records => _records.WrittenSpan;

    public IReadOnlyDictionary<string, byte[]?> Values => _values;

    public byte[]? Find(string key) => _values.TryGetValue(key, out var value) ? value : log.Find(key);

    public void Set(string key, byte[] value)
    {
        if (value.Length > StoreLimits.Default.ValueBytes)
            throw new ArgumentException($"A value may have {StoreLimits.Default.ValueBytes} bytes; this one has {value.Length}. Split it over several keys, or exchange large data by a process group.", nameof(value));
        Write(key, value);
        _values[key] = value;
    }

    public long Add(string key, long amount)
    {
        var current = Find(key) is { } text ? long.Parse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture) : 0;
        var sum = checked(current + amount);
        Set(key, StoreProtocol.Text.GetBytes(sum.ToString(CultureInfo.InvariantCulture)));
        return sum;
    }

    public bool Delete(string key)
    {
        if (Find(key) is null)
            return false;
        Write(FileStoreKey.DeletePrefix + key, []);
        _values[key] = null;
        return true;
    }

    private void Write(string key, byte[] value)
    {
        Write(Encoding.Latin1.GetBytes(key));
        Write(value);
    }

    private void Write(byte[] field)
    {
        BinaryPrimitives.WriteInt32LittleEndian(_records.GetSpan(sizeof(int)), field.Length);
        _records.Advance(sizeof(int));
        _records.Write(field);
    }
}
