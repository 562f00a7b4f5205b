using System.Text.Json;
using System.Text.Json.Serialization;
using FabricSharp.Collectives;
using static TorchSharp.torch;

namespace FabricSharp;

/// <summary>Exchanging values between ranks.</summary>
public sealed partial class Fabric
{
    /// <summary>Tuples have fields, and losses may be infinite.</summary>
    private static readonly JsonSerializerOptions BroadcastOptions = new() { IncludeFields = true, NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals };

    /// <summary>Prints on the first rank of each machine only. Local.</summary>
    public void Print(object? value)
    {
        if (LocalRank == 0)
            Console.WriteLine(value);
    }

    /// <summary>Returns when every rank has called it. Collective.</summary>
    public void Barrier()
    {
        RequireLaunched(nameof(Barrier));
        Strategy.Group?.Barrier().Wait();
    }

    /// <summary>Combines the ranks' tensors element by element, in place, and returns <paramref name="tensor"/>. Collective.</summary>
    /// <param name="tensor">Same type and size on every rank.</param>
    /// <param name="op"><c>"mean"</c> (or <c>"avg"</c>) or <c>"sum"</c>. The mean of integers is cut off towards zero. <value>Default "mean".</value></param>
    public Tensor AllReduce(Tensor tensor, string op = "mean")
    {
        ArgumentNullException.ThrowIfNull(tensor);
        RequireLaunched(nameof(AllReduce));
        var mean = op switch
        {
            "mean" or "avg" => true,
            "sum" => false,
            _ => throw new ArgumentException($"AllReduce(op: \"{op}\"): the accepted operations are \"mean\", \"avg\" and \"sum\".", nameof(op)),
        };
        if (Strategy.Group is not { } group)
            return tensor;
        var isReal = tensor.dtype.IsFloatingPoint();
        group.AllReduce(tensor, mean && isReal ? ReduceOp.Average : ReduceOp.Sum).Wait();
        if (mean && !isReal)
        {
            using var gradientsOff = no_grad();
            using TorchSharp.Scalar size = group.Size; // held: TorchSharp lets the finaliser free a number that it made itself during the call
            tensor.div_(size, RoundingMode.trunc);
        }

        return tensor;
    }

    /// <summary>Combines a number of each rank. Collective.</summary>
    /// <param name="value">This rank's number.</param>
    /// <param name="op"><c>"mean"</c> (or <c>"avg"</c>) or <c>"sum"</c>. <value>Default "mean".</value></param>
    public double AllReduce(double value, string op = "mean")
    {
        using var number = tensor(value, ScalarType.Float64, Strategy.Group?.TensorDevice ?? CPU);
        return AllReduce(number, op).item<double>();
    }

    /// <summary>Collects every rank's tensor. Collective.</summary>
    /// <param name="tensor">Same type and shape on every rank.</param>
    /// <returns>A new tensor of shape (world size, …shape), rank r's at index r; with a single device the tensor itself, unchanged.</returns>
    public Tensor AllGather(Tensor tensor)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        RequireLaunched(nameof(AllGather));
        if (Strategy.Group is not { } group)
            return tensor;
        var output = empty([group.Size, .. tensor.shape], tensor.dtype, tensor.device);
        group.AllGather(output, tensor).Wait();
        return output;
    }

    /// <summary>Overwrites <paramref name="tensor"/> with rank <paramref name="src"/>'s and returns it. Collective.</summary>
    public Tensor Broadcast(Tensor tensor, int src = 0)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        RequireLaunched(nameof(Broadcast));
        using (no_grad())
            Strategy.Group?.Broadcast(tensor, src).Wait();
        return tensor;
    }

    /// <summary>Gives rank <paramref name="src"/>'s value to every rank, as JSON. Collective.</summary>
    /// <param name="value">Used on rank <paramref name="src"/> only; any type that System.Text.Json can write and read.</param>
    /// <param name="src">The rank that gives the value. <value>Default 0.</value></param>
    public T Broadcast<T>(T value, int src = 0)
    {
        RequireLaunched(nameof(Broadcast));
        if (Strategy.Group is not { } group)
            return value;
        var json = GlobalRank == src ? JsonSerializer.SerializeToUtf8Bytes(value, BroadcastOptions) : [];
        using var length = tensor(new[] { (long)json.Length }, device: group.TensorDevice);
        group.Broadcast(length, src).Wait();
        using var bytes = GlobalRank == src ? tensor(json, device: group.TensorDevice) : empty(length.item<long>(), ScalarType.Byte, group.TensorDevice);
        group.Broadcast(bytes, src).Wait();
        using var here = bytes.cpu();
        return GlobalRank == src ? value : JsonSerializer.Deserialize<T>(here.data<byte>().ToArray(), BroadcastOptions)!;
    }
}
