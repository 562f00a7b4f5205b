using FabricSharp.DataParallel;
using FabricSharp.Exchange;
using FabricSharp.Precision;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp;

/// <summary>Exchanging values between ranks.</summary>
public sealed partial class Fabric
{
    /// <summary>Prints on the first rank of each machine only. Local.</summary>
    public void Print(object? value)
    {
        RequireAlive(nameof(Print));
        if (LocalRank == 0)
            Console.WriteLine(value);
    }

    /// <summary>Returns when every rank has called it. Collective.</summary>
    public void Barrier()
    {
        RequireLaunched(nameof(Barrier));
        Strategy.Group?.Barrier().Wait();
    }

    /// <summary>
    /// Rank 0 runs what is inside the scope first, the others afterwards, as for a download that they then find on the disk. However long rank 0
    /// takes, no time-out applies; a rank that throws inside leaves none waiting. With one rank nothing is waited for. Collective: all ranks
    /// leave together, and inside there are no collective operations.
    /// </summary>
    /// <param name="local">True: the first rank of each machine goes first, for disks that machines do not share. <value>Default false.</value></param>
    /// <returns>Dispose it to end the scope: <c>using (fabric.RankZeroFirst()) { … }</c>.</returns>
    /// <exception cref="Collectives.DistributedException">Another rank ended, or called another collective operation.</exception>
    public IDisposable RankZeroFirst(bool local = false)
    {
        RequireLaunched(nameof(RankZeroFirst));
        return Strategy.Group is { } group ? new LeadingRankScope(group, local ? LocalRank == 0 : IsGlobalZero) : NoContext.Instance;
    }

    /// <summary>
    /// Brings a value to <see cref="Device"/>: a module in place, a tensor, and the tensors in arrays, lists, dictionaries, tuples and records.
    /// What lies there already is not copied, and other values come back as they are. Local.
    /// </summary>
    /// <returns>The module itself; the tensor or a copy; the collection, or a new one of the same type where a tensor was copied.</returns>
    public T ToDevice<T>(T value)
    {
        RequireAlive(nameof(ToDevice));
        if (value is not nn.Module module)
            return Data.TensorTree.Map(value, tensor => Data.BatchPlacement.LiesOn(tensor, Device) ? tensor : tensor.to(Device));
        Modules.ModulePlacement.Move(Original(module), Device);
        return value;
    }

    /// <summary>Combines the ranks' tensors element by element, in place, and returns <paramref name="tensor"/>. Collective.</summary>
    /// <param name="tensor">Same type and size on every rank.</param>
    /// <param name="op"><c>"mean"</c> (or <c>"avg"</c>) or <c>"sum"</c>. The mean of integers is cut off towards zero. <value>Default "mean".</value></param>
    /// <exception cref="ArgumentException">Another operation.</exception>
    public Tensor AllReduce(Tensor tensor, string op = "mean")
    {
        ArgumentNullException.ThrowIfNull(tensor);
        var isMean = IsMean(op);
        RequireLaunched(nameof(AllReduce));
        return Strategy.Group is { } group ? new RankReduction(group, isMean).Reduce(tensor) : tensor;
    }

    /// <summary>Combines a number of each rank. Collective.</summary>
    /// <param name="value">This rank's number.</param>
    /// <param name="op"><c>"mean"</c> (or <c>"avg"</c>) or <c>"sum"</c>. <value>Default "mean".</value></param>
    /// <exception cref="ArgumentException">Another operation.</exception>
    public double AllReduce(double value, string op = "mean") => AllReduce(new[] { value }, op)[0];

    /// <inheritdoc cref="AllReduce(double, string)"/>
    public double AllReduce(float value, string op = "mean") => AllReduce((double)value, op);

    /// <inheritdoc cref="AllReduce(double, string)"/>
    public double AllReduce(int value, string op = "mean") => AllReduce((double)value, op);

    /// <inheritdoc cref="AllReduce(double, string)"/>
    public double AllReduce(long value, string op = "mean") => AllReduce((double)value, op);

    /// <summary>
    /// Combines the ranks' collections leaf by leaf: tensors in place, numbers (all built-in types but decimal) by new ones of their type, so that the mean of
    /// integers is cut off towards zero. Other leaves stay this rank's. One rank: unchanged. Collective.
    /// </summary>
    /// <typeparam name="T">An array, list, dictionary, tuple or record, also of such; or a tensor.</typeparam>
    /// <param name="data">The same structure on every rank.</param>
    /// <param name="op"><c>"mean"</c> (or <c>"avg"</c>) or <c>"sum"</c>. <value>Default "mean".</value></param>
    /// <returns>The collection, or a new one of the same type where it holds numbers.</returns>
    /// <exception cref="ArgumentException">Another operation.</exception>
    public T AllReduce<T>(T data, string op = "mean")
    {
        ArgumentNullException.ThrowIfNull(data);
        var isMean = IsMean(op);
        RequireLaunched(nameof(AllReduce));
        return Strategy.Group is { } group ? new RankReduction(group, isMean).Reduce(data) : data;
    }

    /// <summary>Collects every rank's tensor. Collective.</summary>
    /// <param name="tensor">Same type and shape on every rank.</param>
    /// <param name="syncGrads">
    /// Whether gradients flow back through the result: this rank's tensor then gets the sum of what the ranks' losses say about it, and the backward
    /// pass is collective as well. <value>Default false.</value>
    /// </param>
    /// <returns>A new tensor of shape (world size, …shape), rank r's at index r; with a single device the tensor itself, unchanged.</returns>
    public Tensor AllGather(Tensor tensor, bool syncGrads = false)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        RequireLaunched(nameof(AllGather));
        if (Strategy.Group is not { } group)
            return tensor;
        return syncGrads ? group.AllGatherWithGradient(tensor) : DifferentiableCollectives.Gather(tensor, group);
    }

    /// <inheritdoc cref="AllGather(Tensor, bool)"/>
    public Tensor AllGather(Parameter tensor, bool syncGrads = false) => AllGather((Tensor)tensor, syncGrads);

    /// <summary>Collects every rank's tensors, leaf by leaf; leaves that are no tensors stay this rank's. Collective.</summary>
    /// <typeparam name="T">An array, list, dictionary, tuple or record of tensors, also of such.</typeparam>
    /// <param name="data">The same structure, element types and shapes on every rank.</param>
    /// <param name="syncGrads">See <see cref="AllGather(Tensor, bool)"/>. <value>Default false.</value></param>
    /// <returns>A collection of the same type, each tensor of shape (world size, …shape); with a single device the collection itself, unchanged.</returns>
    /// <exception cref="ArgumentException">A number or a text, which is no collection.</exception>
    public T AllGather<T>(T data, bool syncGrads = false)
    {
        ArgumentNullException.ThrowIfNull(data);
        if (data is IConvertible)
            throw new ArgumentException($"AllGather collects tensors, and collections of them, not a {typeof(T).Name}. Write `fabric.AllGather(torch.tensor(value))`.", nameof(data));
        RequireLaunched(nameof(AllGather));
        return Data.TensorTree.Map(data, tensor => AllGather(tensor, syncGrads));
    }

    /// <summary>Gives rank <paramref name="src"/>'s tensor to every rank. Collective.</summary>
    /// <param name="tensor">
    /// On the other ranks overwritten where it has the same type and shape; a tensor of another type or shape is left alone and null is allowed, for a
    /// rank that does not know the shape.
    /// </param>
    /// <param name="src">The rank that gives the tensor. <value>Default 0.</value></param>
    /// <returns><paramref name="tensor"/>, or a new tensor on <see cref="Device"/> where it could not be overwritten.</returns>
    /// <exception cref="ArgumentOutOfRangeException">There is no such rank.</exception>
    public Tensor Broadcast(Tensor? tensor, int src = 0) => BroadcastFrom(src) is { } broadcast ? broadcast.Send(tensor) : tensor!;

    /// <summary>
    /// Gives rank <paramref name="src"/>'s value to every rank: as JSON, with tensors inside it as they are. Where a value's place has the type
    /// <c>object</c>, numbers arrive as long or double and objects as dictionaries. Collective.
    /// </summary>
    /// <typeparam name="T">A type that System.Text.Json can write and read: numbers, texts, lists, arrays, dictionaries, tuples, records, also with tensors in them.</typeparam>
    /// <param name="value">Used on rank <paramref name="src"/> only; the others may give null or default.</param>
    /// <param name="src">The rank that gives the value. <value>Default 0.</value></param>
    /// <returns>On rank <paramref name="src"/> the value itself; elsewhere a new one, its tensors on <see cref="Device"/>.</returns>
    /// <exception cref="ArgumentException">The value cannot be written as JSON; on every rank.</exception>
    /// <exception cref="ArgumentOutOfRangeException">There is no such rank.</exception>
    public T Broadcast<T>(T value, int src = 0) => BroadcastFrom(src) is { } broadcast ? broadcast.Send(value) : value;

    private ValueBroadcast? BroadcastFrom(int source)
    {
        RequireLaunched(nameof(Broadcast));
        if (source < 0 || source >= WorldSize)
            throw new ArgumentOutOfRangeException("src", source, $"Broadcast(src: {source}): there are the ranks 0 to {WorldSize - 1}.");
        return Strategy.Group is { } group ? new ValueBroadcast(group, source, Device) : null;
    }

    private static bool IsMean(string op) => op switch
    {
        "mean" or "avg" => true,
        "sum" => false,
        _ => throw new ArgumentException($"AllReduce(op: \"{op}\"): the accepted operations are \"mean\", \"avg\" and \"sum\".", nameof(op)),
    };
}
