using FabricSharp.Collectives;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Collectives.Cases;

/// <summary>
/// One call of a random program: the same record on every rank. Each rank computes what must come out from the inputs of all, which it makes
/// itself: the plain group that the real one is compared with.
/// </summary>
/// <param name="Kind">The operation.</param>
/// <param name="Type">Of the elements.</param>
/// <param name="Choice">Chooses reduction and root.</param>
/// <param name="Count">Elements per rank.</param>
/// <param name="Strided">Whether inputs have strides.</param>
internal sealed record CollectiveCall(CollectiveCall.Operation Kind, ScalarType Type, int Choice, int Count, bool Strided)
{
    internal enum Operation
    {
        AllReduce,
        Broadcast,
        Reduce,
        AllGather,
        Gather,
        Scatter,
        ReduceScatter,
        AllToAll,
        AllToAllSplits,
        Ring,
        Barrier,
    }

    public static readonly ScalarType[] MovedTypes = [.. ReductionReference.Types, ScalarType.ComplexFloat32];

    public static CollectiveCall Random(Random random)
    {
        var kind = (Operation)random.Next(Enum.GetValues<Operation>().Length);
        int[] counts = [0, 1, random.Next(20), random.Next(3000), random.Next(100_000)];
        return Of(kind, random.Next(100), random.Next(100), counts[random.Next(counts.Length)], random.Next(3) == 0);
    }

    /// <summary>With a type that the operation takes.</summary>
    public static CollectiveCall Of(Operation kind, int type, int choice, int count, bool strided)
    {
        var types = kind is Operation.AllReduce or Operation.Reduce or Operation.ReduceScatter ? ReductionReference.Types : MovedTypes;
        return new CollectiveCall(kind, types[type % types.Length], choice, count, strided);
    }

    /// <summary>Starts the call on this rank.</summary>
    /// <returns>To be called when its works are over.</returns>
    public (Work[] Works, Action Check) Start(ProcessGroup group, int index)
    {
        var (me, size) = (group.Rank, group.Size);
        var root = Choice % size;
        var ops = Kind is Operation.AllReduce or Operation.Reduce or Operation.ReduceScatter ? ReductionReference.OperationsOf(Type, group.Backend).ToArray() : [ReduceOp.Sum];
        if (ops.Length == 0)
            return ([], () => { }); // this back end has no such reduction
        var op = ops[Choice % ops.Length];
        var what = $"call {index}, {this}, on rank {me} of {size}";
        Tensor[] All(int count) => [.. Enumerable.Range(0, size).Select(rank => Input(count, rank, index))];
        switch (Kind)
        {
            case Operation.AllReduce:
                var reduced = Lay(Input(Count, me, index));
                return ([group.AllReduce(reduced, op)], () => CollectiveCheck.SameBits(ReductionReference.Result(op, All(Count)), reduced, what));
            case Operation.Reduce:
                var toRoot = Lay(Input(Count, me, index));
                return ([group.Reduce(toRoot, root, op)],
                    () => CollectiveCheck.SameBits(me == root ? ReductionReference.Result(op, All(Count)) : Input(Count, me, index), toRoot, what));
            case Operation.Broadcast:
                var sent = Lay(Input(Count, me, index));
                return ([group.Broadcast(sent, root)], () => CollectiveCheck.SameBits(Input(Count, root, index), sent, what));
            case Operation.AllGather:
                var all = zeros([size, Count], Type);
                return ([group.AllGather(all, Lay(Input(Count, me, index)))], () => CollectiveCheck.SameBits(cat(All(Count)), all, what));
            case Operation.Gather:
                var gathered = me == root ? zeros([size, Count], Type) : null;
                return ([group.Gather(gathered, Lay(Input(Count, me, index)), root)],
                    () => CollectiveCheck.SameBits(me == root ? cat(All(Count)) : zeros(0, Type), gathered ?? zeros(0, Type), what));
            case Operation.Scatter:
                var part = zeros(Count, Type);
                return ([group.Scatter(part, me == root ? Lay(Input(Count * size, me, index)) : null, root)],
                    () => CollectiveCheck.SameBits(Input(Count * size, root, index).narrow(0, (long)me * Count, Count), part, what));
            case Operation.ReduceScatter:
                var share = zeros(Count, Type);
                return ([group.ReduceScatter(share, Lay(Input(Count * size, me, index)), op)],
                    () => CollectiveCheck.SameBits(ReductionReference.Result(op, All(Count * size)).narrow(0, (long)me * Count, Count), share, what));
            case Operation.AllToAll:
                var mixed = zeros(size * Count, Type);
                return ([group.AllToAll(mixed, Lay(Input(Count * size, me, index)))],
                    () => CollectiveCheck.SameBits(cat([.. All(Count * size).Select(input => input.narrow(0, (long)me * Count, Count))]), mixed, what));
            case Operation.AllToAllSplits:
                return StartSplits(group, index, what);
            case Operation.Ring:
                var received = Lay(zeros(Count, Type));
                var previous = (me + size - 1) % size;
                if (size == 1)
                    return ([], () => { });
                var receive = group.Recv(received, previous, tag: Choice);
                return ([group.Send(Lay(Input(Count, me, index)), (me + 1) % size, tag: Choice), receive],
                    () => CollectiveCheck.SameBits(Input(Count, previous, index), received, what));
            default:
                return ([group.Barrier()], () => { });
        }
    }

    /// <summary>Rank a sends a number of elements to rank b that depends on both, often none.</summary>
    private (Work[] Works, Action Check) StartSplits(ProcessGroup group, int index, string what)
    {
        var (me, size) = (group.Rank, group.Size);
        long Length(int from, int to) => (from * 5 + to * 3 + Choice) % 4 * (Count / 4);
        long[] Outgoing(int from) => [.. Enumerable.Range(0, size).Select(to => Length(from, to))];
        long[] incoming = [.. Enumerable.Range(0, size).Select(from => Length(from, me))];
        var output = zeros(incoming.Sum(), Type);
        var work = group.AllToAll(output, incoming, Lay(Input((int)Outgoing(me).Sum(), me, index)), Outgoing(me));
        return ([work], () => CollectiveCheck.SameBits(
            cat([.. Enumerable.Range(0, size).Select(from => Input((int)Outgoing(from).Sum(), from, index).narrow(0, Outgoing(from).Take(me).Sum(), Length(from, me)))]),
            output, what));
    }

    private Tensor Input(int count, int rank, int index) => Type == ScalarType.ComplexFloat32
        ? ReductionReference.Input(ScalarType.Float32, count, rank, index).to(Type)
        : ReductionReference.Input(Type, count, rank, index);

    /// <summary>The same numbers in memory of their own, every second place of it if strided.</summary>
    private Tensor Lay(Tensor values)
    {
        if (!Strided)
            return values;
        var wide = zeros([values.numel(), 2], values.dtype);
        var column = wide.select(1, 0);
        column.copy_(values);
        return column;
    }
}
