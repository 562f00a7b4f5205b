using System.Text.Json;
using System.Text.Json.Serialization;
using static TorchSharp.torch;

namespace FabricSharp.Collectives;

/// <summary>Values of any type, as JSON.</summary>
public abstract partial class ProcessGroup
{
    /// <summary>What a rank may send: enough for every list of names and numbers, and little enough that a wrong length is noticed before memory is made.</summary>
    private const int MaxObjectBytes = 256 * 1024 * 1024;

    /// <summary>Says instead of a length that a rank could not write its value.</summary>
    private const long NotWritten = -1;

    /// <summary>Tuples have fields, and losses may be infinite.</summary>
    private static readonly JsonSerializerOptions ObjectOptions = new() { IncludeFields = true, NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals };

    /// <summary>Gives rank <paramref name="root"/>'s value to every rank. Collective; returns when this rank has it.</summary>
    /// <typeparam name="T">Any type that System.Text.Json writes and reads; the same on every rank.</typeparam>
    /// <param name="value">Used on the root only.</param>
    /// <param name="root">The rank that gives its value.</param>
    /// <exception cref="DistributedException">The root could not write its value as JSON (on every rank), it is larger than 256 MiB, or this rank cannot read it.</exception>
    public T BroadcastObject<T>(T value, int root)
    {
        var call = Call(nameof(BroadcastObject));
        call.RequireRank(root, nameof(root));
        var (json, failure) = Rank == root ? ToJson(value) : ([], null);
        using var scope = NewDisposeScope();
        using var gradientsOff = no_grad();
        var length = tensor(new[] { LengthOf(json, failure) }, device: TensorDevice);
        BroadcastCore(length, root).Wait();
        var bytes = RequireLength(nameof(BroadcastObject), root, length.cpu().item<long>(), failure);
        var content = Rank == root ? tensor(json!, device: TensorDevice) : empty(bytes, ScalarType.Byte, TensorDevice);
        BroadcastCore(content, root).Wait();
        return Rank == root ? value : FromJson<T>(nameof(BroadcastObject), root, content.cpu().data<byte>().ToArray());
    }

    /// <summary>Gives every rank's value to every rank. Collective; returns when this rank has them.</summary>
    /// <typeparam name="T">Any type that System.Text.Json writes and reads; the same on every rank.</typeparam>
    /// <returns>The values in the order of the ranks.</returns>
    /// <exception cref="DistributedException">As in <see cref="BroadcastObject"/>.</exception>
    public IReadOnlyList<T> AllGatherObject<T>(T value) => GatherObjects(nameof(AllGatherObject), value, root: null)!;

    /// <summary>Gives every rank's value to rank <paramref name="root"/>. Collective; returns when this rank's part is done.</summary>
    /// <typeparam name="T">Any type that System.Text.Json writes and reads; the same on every rank.</typeparam>
    /// <returns>On the root the values in the order of the ranks, on the others null.</returns>
    /// <exception cref="DistributedException">As in <see cref="BroadcastObject"/>.</exception>
    public IReadOnlyList<T>? GatherObject<T>(T value, int root)
    {
        Call(nameof(GatherObject)).RequireRank(root, nameof(root));
        return GatherObjects(nameof(GatherObject), value, root);
    }

    /// <summary>Every rank sends as many bytes as the longest value has.</summary>
    private List<T>? GatherObjects<T>(string operation, T value, int? root)
    {
        var (json, failure) = ToJson(value);
        using var scope = NewDisposeScope();
        using var gradientsOff = no_grad();
        var lengths = empty(Size, ScalarType.Int64, TensorDevice);
        AllGatherCore(lengths, tensor(new[] { LengthOf(json, failure) }, device: TensorDevice)).Wait();
        var counts = lengths.cpu().data<long>().ToArray();
        for (var rank = 0; rank < Size; rank++)
            RequireLength(operation, rank, counts[rank], failure);
        var longest = counts.Max();
        if (longest * Size > int.MaxValue)
            throw new DistributedException(
                $"{Me}: {operation}: {Size} values of up to {longest:N0} bytes of JSON are too much for one exchange. Gather tensors, or write files, instead.");
        var padded = new byte[longest];
        json!.CopyTo(padded, 0);
        var input = tensor(padded, device: TensorDevice);
        var all = root is null || root == Rank ? empty(Size * longest, ScalarType.Byte, TensorDevice) : null;
        (root is { } target ? GatherCore(all, input, target) : AllGatherCore(all!, input)).Wait();
        if (all is null)
            return null;
        var bytes = all.cpu().data<byte>().ToArray();
        return [.. counts.Select((count, rank) => FromJson<T>(operation, rank, bytes.AsSpan((int)(rank * longest), (int)count)))];
    }

    /// <summary>A value that cannot be written must not keep this rank from the exchange that the others are in.</summary>
    private static (byte[]? Json, Exception? Failure) ToJson<T>(T value)
    {
        try
        {
            return (JsonSerializer.SerializeToUtf8Bytes(value, ObjectOptions), null);
        }
        catch (Exception e) when (e is JsonException or NotSupportedException or InvalidOperationException or ArgumentException)
        {
            return (null, e);
        }
    }

    private static long LengthOf(byte[]? json, Exception? failure) => failure is null ? json!.Length : NotWritten;

    private long RequireLength(string operation, int rank, long length, Exception? failure)
    {
        if (length == NotWritten)
            throw new DistributedException(
                $"{Me}: {operation}: {NameOf(rank)} could not write its value as JSON{(rank == Rank ? $": {failure!.Message}" : "; its own error says why")}. " +
                "Send types with public properties that System.Text.Json can write and read.", rank == Rank ? failure : null);
        if (length is < 0 or > MaxObjectBytes)
            throw new DistributedException(
                $"{Me}: {operation}: the value of {NameOf(rank)} has {length:N0} bytes of JSON; at most {MaxObjectBytes:N0} can be sent. Send a tensor, or write a file, instead.");
        return length;
    }

    private T FromJson<T>(string operation, int rank, ReadOnlySpan<byte> json)
    {
        try
        {
            return JsonSerializer.Deserialize<T>(json, ObjectOptions)!;
        }
        catch (Exception e) when (e is JsonException or NotSupportedException or InvalidOperationException or ArgumentException)
        {
            throw new DistributedException(
                $"{Me}: {operation}: the value of {NameOf(rank)} ({json.Length:N0} bytes of JSON) cannot be read as {typeof(T)}: {e.Message} Do all ranks call with the same type?", e);
        }
    }
}
