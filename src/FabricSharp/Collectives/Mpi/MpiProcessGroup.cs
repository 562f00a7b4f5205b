using System.Runtime.InteropServices;
using FabricSharp.Interop.LibTorch;
using FabricSharp.Interop.Mpi;
using static TorchSharp.torch;

namespace FabricSharp.Collectives.Mpi;

/// <summary>The ranks of an MPI job on any number of machines, CPU tensors. See docs/design/mpi.md.</summary>
internal sealed class MpiProcessGroup : ProcessGroup
{
    private readonly MpiChannel _channel;

    private MpiProcessGroup(MpiChannel channel) => _channel = channel;

    public override int Rank => _channel.Rank;

    public override int Size => _channel.Size;

    public override string Backend => "mpi";

    public override TimeSpan Timeout => _channel.Timeout;

    public override IReadOnlyList<int> GlobalRanks => _channel.GlobalRanks;

    /// <summary>Makes a group of all ranks of the MPI job. Collective.</summary>
    /// <param name="rank">This rank, as MPI counts.</param>
    /// <param name="size">The number of ranks of the job.</param>
    /// <param name="timeout">The limit of each wait.</param>
    /// <param name="pieceBytes">Size of the pieces in which large tensors are moved; smaller in tests.</param>
    public static MpiProcessGroup Join(int rank, int size, TimeSpan timeout, int pieceBytes = MpiChannel.DefaultPieceBytes)
    {
        var runtime = MpiRuntime.Start(rank, size, timeout);
        MpiMeetingPlace.Meet(runtime, timeout);
        return new MpiProcessGroup(new MpiChannel(runtime, Guarded(rank, runtime, () => runtime.Api.Duplicate(runtime.Api.World)), "the process group", rank, [.. Enumerable.Range(0, size)], timeout, pieceBytes));
    }

    internal override void Progress() => _channel.Runtime.Advance();

    private protected override Work AllReduceCore(Tensor tensor, ReduceOp op) =>
        _channel.Start(new MpiAllReduce(Data(tensor), tensor.numel(), tensor.dtype, op, tensor));

    private protected override Work BroadcastCore(Tensor tensor, int root) =>
        _channel.Start(new MpiBroadcast(Data(tensor), tensor.numel(), tensor.dtype, root, tensor));

    private protected override Work ReduceCore(Tensor tensor, int root, ReduceOp op) =>
        _channel.Start(new MpiReduce(Data(tensor), tensor.numel(), tensor.dtype, op, root, tensor));

    private protected override Work AllGatherCore(Tensor output, Tensor input) =>
        _channel.Start(new MpiGather(Data(input), Data(output), input.numel(), input.dtype, null, input, output));

    private protected override Work GatherCore(Tensor? output, Tensor input, int root) =>
        _channel.Start(new MpiGather(Data(input), Data(output), input.numel(), input.dtype, root, input, output));

    private protected override Work ScatterCore(Tensor output, Tensor? input, int root) =>
        _channel.Start(new MpiScatter(Data(input), Data(output), output.numel(), output.dtype, root, output, input));

    private protected override Work ReduceScatterCore(Tensor output, Tensor input, ReduceOp op) =>
        _channel.Start(new MpiReduceScatter(Data(input), Data(output), output.numel(), output.dtype, op, output, input));

    private protected override Work AllToAllCore(Tensor output, Tensor input) =>
        _channel.Start(new MpiAllToAll(Data(input), Data(output), input.numel() / Size, input.dtype, output, input));

    private protected override Work AllToAllCore(Tensor output, long[] outputCounts, Tensor input, long[] inputCounts) =>
        _channel.Start(new MpiAllToAllSplits(Data(input), inputCounts, Data(output), outputCounts, input.dtype, output, input));

    private protected override Work SendCore(Tensor tensor, int destination, int tag) =>
        _channel.Start(new MpiMessage(Data(tensor), tensor.numel(), tensor.dtype, destination, tag, isOutgoing: true, tensor));

    private protected override Work RecvCore(Tensor tensor, int source, int tag) =>
        _channel.Start(new MpiMessage(Data(tensor), tensor.numel(), tensor.dtype, source, tag, isOutgoing: false, tensor));

    private protected override Work BarrierCore() => _channel.Start(new MpiMeeting(new MpiCall(MpiCollective.Barrier)));

    private protected override IReadOnlyList<int> MonitoredBarrierCore(TimeSpan timeout)
    {
        var barrier = new MpiMeeting(new MpiCall(MpiCollective.MonitoredBarrier));
        _channel.Start(barrier);
        return _channel.WaitForAll(barrier, timeout);
    }

    /// <summary>MPI makes communicators in calls that wait for all ranks without a limit: these are made when all ranks are there.</summary>
    private protected override ProcessGroup? NewGroupCore(int[] ranks, TimeSpan timeout)
    {
        _channel.Start(new MpiMeeting(new MpiCall(MpiCollective.NewGroup))).Wait();
        var place = Array.IndexOf(ranks, Rank);
        var communicator = Guarded(Rank, _channel.Runtime, () => _channel.Api.Split(_channel.Communicator, place < 0 ? null : place));
        return place < 0 ? null : Child(communicator, "the process group", place, [.. ranks.Select(rank => GlobalRanks[rank])], timeout);
    }

    public override void Abort(string reason) => _channel.Abort(reason);

    internal override GradientChannel CreateGradientChannel(string name, int exchangeBytes)
    {
        var setUp = MemoryMarshal.AsBytes($"{name}/{exchangeBytes}".AsSpan());
        _channel.Start(new MpiMeeting(new MpiCall(MpiCollective.GradientChannel, Count: BitConverter.ToInt64(System.Security.Cryptography.SHA256.HashData(setUp))))).Wait();
        return new GroupGradientChannel(Duplicate($"{name}, buckets"), Duplicate($"{name}, control"), exchangeBytes);
    }

    protected override void Dispose(bool disposing) => _channel.Dispose();

    private MpiProcessGroup Duplicate(string name) =>
        Child(Guarded(Rank, _channel.Runtime, () => _channel.Api.Duplicate(_channel.Communicator)), name, Rank, GlobalRanks, Timeout);

    private MpiProcessGroup Child(IntPtr communicator, string name, int rank, IReadOnlyList<int> globalRanks, TimeSpan timeout)
    {
        var child = new MpiChannel(_channel.Runtime, communicator, name, rank, globalRanks, timeout, _channel.PieceBytes);
        _channel.Add(child);
        return new MpiProcessGroup(child);
    }

    private static IntPtr Guarded(int rank, MpiRuntime runtime, Func<IntPtr> make)
    {
        try
        {
            lock (runtime.Gate)
                return make();
        }
        catch (MpiException e)
        {
            throw new DistributedException($"Rank {rank}: a communicator could not be made: {e.Message}.", e);
        }
    }

    private static IntPtr Data(Tensor? tensor) => tensor is null || tensor.numel() == 0 ? IntPtr.Zero : TensorMemory.PointerOf(tensor);
}
