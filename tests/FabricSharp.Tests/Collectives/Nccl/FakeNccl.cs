using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using FabricSharp.Collectives;
using FabricSharp.Collectives.Nccl;
using FabricSharp.Interop.Cuda;
using FabricSharp.Interop.Nccl;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Collectives.Nccl;

/// <summary>
/// NCCL as unmanaged functions over CPU memory, ranks as threads: what is called has NCCL's signatures and takes its path through the typed wrapper. As strict
/// as NCCL about devices, sizes and configuration; calls answer "in progress" and take effect only when they have been asked about again.
/// </summary>
internal static unsafe class FakeNccl
{
    private static readonly ConcurrentDictionary<IntPtr, FakeCommunicator> Communicators = new();
    private static readonly ConcurrentDictionary<long, FakeClique> Cliques = new();
    private static readonly IntPtr ErrorText = Marshal.StringToCoTaskMemUTF8("a simulated NCCL error");
    private static readonly IntPtr LastErrorText = Marshal.StringToCoTaskMemUTF8("Duplicate GPU detected : simulated");
    private static readonly IntPtr Nothing = Marshal.StringToCoTaskMemUTF8("");
    private static long _ids;

    [ThreadStatic]
    private static List<(FakeCommunicator Communicator, FakeTransfer Transfer)>? _group;

    public static NcclEngine Engine { get; } = new(new NcclLibrary(Export), new CudaRuntime(FakeCuda.Export), _ => CPU);

    /// <summary>Without premultiplied sums.</summary>
    public static NcclEngine OldEngine { get; } = Engine with { Nccl = new NcclLibrary(name => name.StartsWith("ncclRedOp", StringComparison.Ordinal) ? 0 : Export(name)) };

    public static ProcessGroup Join(Store store, int rank, int size, TimeSpan timeout, int? device = null) => NcclProcessGroup.Join(Engine, store, rank, size, timeout, device);

    public static FakeCommunicator[] On(int device) => [.. Communicators.Values.Where(one => one.Device == device)];

    public static IntPtr Export(string name) => name switch
    {
        "ncclGetVersion" => (IntPtr)(delegate* unmanaged<int*, NcclResult>)&GetVersion,
        "ncclGetUniqueId" => (IntPtr)(delegate* unmanaged<NcclUniqueId*, NcclResult>)&GetUniqueId,
        "ncclCommInitRankConfig" => (IntPtr)(delegate* unmanaged<IntPtr*, int, NcclUniqueId, int, NcclConfig*, NcclResult>)&Init,
        "ncclCommFinalize" => (IntPtr)(delegate* unmanaged<IntPtr, NcclResult>)&Finalize,
        "ncclCommDestroy" => (IntPtr)(delegate* unmanaged<IntPtr, NcclResult>)&Destroy,
        "ncclCommAbort" => (IntPtr)(delegate* unmanaged<IntPtr, NcclResult>)&Abort,
        "ncclCommGetAsyncError" => (IntPtr)(delegate* unmanaged<IntPtr, NcclResult*, NcclResult>)&GetAsyncError,
        "ncclGetErrorString" => (IntPtr)(delegate* unmanaged<NcclResult, IntPtr>)&GetErrorString,
        "ncclGetLastError" => (IntPtr)(delegate* unmanaged<IntPtr, IntPtr>)&GetLastError,
        "ncclAllReduce" => (IntPtr)(delegate* unmanaged<IntPtr, IntPtr, nuint, NcclType, int, IntPtr, IntPtr, NcclResult>)&AllReduce,
        "ncclBroadcast" => (IntPtr)(delegate* unmanaged<IntPtr, IntPtr, nuint, NcclType, int, IntPtr, IntPtr, NcclResult>)&Broadcast,
        "ncclReduce" => (IntPtr)(delegate* unmanaged<IntPtr, IntPtr, nuint, NcclType, int, int, IntPtr, IntPtr, NcclResult>)&Reduce,
        "ncclAllGather" => (IntPtr)(delegate* unmanaged<IntPtr, IntPtr, nuint, NcclType, IntPtr, IntPtr, NcclResult>)&AllGather,
        "ncclReduceScatter" => (IntPtr)(delegate* unmanaged<IntPtr, IntPtr, nuint, NcclType, int, IntPtr, IntPtr, NcclResult>)&ReduceScatter,
        "ncclSend" => (IntPtr)(delegate* unmanaged<IntPtr, nuint, NcclType, int, IntPtr, IntPtr, NcclResult>)&Send,
        "ncclRecv" => (IntPtr)(delegate* unmanaged<IntPtr, nuint, NcclType, int, IntPtr, IntPtr, NcclResult>)&Receive,
        "ncclGroupStart" => (IntPtr)(delegate* unmanaged<NcclResult>)&GroupStart,
        "ncclGroupEnd" => (IntPtr)(delegate* unmanaged<NcclResult>)&GroupEnd,
        "ncclRedOpCreatePreMulSum" => (IntPtr)(delegate* unmanaged<int*, void*, NcclType, int, IntPtr, NcclResult>)&CreatePreMulSum,
        "ncclRedOpDestroy" => (IntPtr)(delegate* unmanaged<int, IntPtr, NcclResult>)&DestroyReduction,
        _ => 0,
    };

    [UnmanagedCallersOnly]
    private static NcclResult GetVersion(int* version)
    {
        *version = 22705;
        return NcclResult.Success;
    }

    [UnmanagedCallersOnly]
    private static NcclResult GetUniqueId(NcclUniqueId* id)
    {
        var bytes = new Span<byte>(id, NcclUniqueId.Size);
        bytes.Fill(0xa5); // all of it has to travel
        BinaryPrimitives.WriteInt64LittleEndian(bytes, Interlocked.Increment(ref _ids));
        return NcclResult.Success;
    }

    [UnmanagedCallersOnly]
    private static NcclResult Init(IntPtr* made, int size, NcclUniqueId id, int rank, NcclConfig* config)
    {
        var bytes = id.ToArray();
        if (config->Bytes != 48 || config->Magic != 0xcafebeef || config->Version != 21800 || config->Blocking != 0 || config->SplitShare != int.MinValue || config->MinCtas != int.MinValue)
            return NcclResult.InvalidArgument;
        if (bytes[8..].Any(b => b != 0xa5) || rank < 0 || rank >= size)
            return NcclResult.InvalidArgument;
        var clique = Cliques.GetOrAdd(BinaryPrimitives.ReadInt64LittleEndian(bytes), _ => new FakeClique(size));
        var communicator = new FakeCommunicator(clique, rank, FakeCuda.CurrentDevice);
        *made = communicator.Handle;
        Communicators[communicator.Handle] = communicator;
        clique.Join();
        return NcclResult.InProgress;
    }

    [UnmanagedCallersOnly]
    private static NcclResult Finalize(IntPtr handle) => Of(handle)?.Defer(() => { }) ?? NcclResult.InvalidArgument;

    [UnmanagedCallersOnly]
    private static NcclResult Destroy(IntPtr handle) => Communicators.TryRemove(handle, out var one) && one.Device == FakeCuda.CurrentDevice ? NcclResult.Success : NcclResult.InvalidArgument;

    [UnmanagedCallersOnly]
    private static NcclResult Abort(IntPtr handle)
    {
        if (!Communicators.TryRemove(handle, out var one))
            return NcclResult.InvalidArgument;
        one.Abort();
        return NcclResult.Success;
    }

    [UnmanagedCallersOnly]
    private static NcclResult GetAsyncError(IntPtr handle, NcclResult* state)
    {
        if (!Communicators.TryGetValue(handle, out var one))
            return NcclResult.InvalidArgument;
        *state = one.Poll();
        return NcclResult.Success;
    }

    [UnmanagedCallersOnly]
    private static IntPtr GetErrorString(NcclResult result) => ErrorText;

    [UnmanagedCallersOnly]
    private static IntPtr GetLastError(IntPtr handle) => Communicators.TryGetValue(handle, out var one) && one.AsyncError == NcclResult.InvalidUsage ? LastErrorText : Nothing;

    [UnmanagedCallersOnly]
    private static NcclResult AllReduce(IntPtr send, IntPtr receive, nuint count, NcclType type, int op, IntPtr handle, IntPtr stream) =>
        Collective(handle, stream, $"allreduce {count} {type} {op}", send, receive, (one, meeting) => ReduceAll(one, meeting, op, type, (long)count, receive));

    [UnmanagedCallersOnly]
    private static NcclResult Broadcast(IntPtr send, IntPtr receive, nuint count, NcclType type, int root, IntPtr handle, IntPtr stream) =>
        Collective(handle, stream, $"broadcast {count} {type} {root}", send, receive, (one, meeting) => FakeReduction.Copy(meeting.Copies![root], 0, FakeReduction.SizeOf(type) * (long)count, receive));

    [UnmanagedCallersOnly]
    private static NcclResult Reduce(IntPtr send, IntPtr receive, nuint count, NcclType type, int op, int root, IntPtr handle, IntPtr stream) =>
        Collective(handle, stream, $"reduce {count} {type} {op} {root}", send, receive, (one, meeting) =>
        {
            if (one.Rank == root)
                ReduceAll(one, meeting, op, type, (long)count, receive);
        });

    [UnmanagedCallersOnly]
    private static NcclResult AllGather(IntPtr send, IntPtr receive, nuint count, NcclType type, IntPtr handle, IntPtr stream) =>
        Collective(handle, stream, $"allgather {count} {type}", send, receive, (one, meeting) =>
        {
            var bytes = FakeReduction.SizeOf(type) * (long)count;
            for (var rank = 0; rank < meeting.Copies!.Length; rank++)
                FakeReduction.Copy(meeting.Copies[rank], 0, bytes, receive + (nint)(rank * bytes));
        });

    [UnmanagedCallersOnly]
    private static NcclResult ReduceScatter(IntPtr send, IntPtr receive, nuint count, NcclType type, int op, IntPtr handle, IntPtr stream) =>
        Collective(handle, stream, $"reducescatter {count} {type} {op}", send, receive, (one, meeting) => FakeReduction.Apply(meeting.Copies!, one.FactorOf(op), op, type, one.Rank * (long)count, (long)count, receive));

    [UnmanagedCallersOnly]
    private static NcclResult Send(IntPtr data, nuint count, NcclType type, int peer, IntPtr handle, IntPtr stream) =>
        Transfer(handle, stream, new FakeTransfer(true, peer, data, FakeReduction.SizeOf(type) * (long)count));

    [UnmanagedCallersOnly]
    private static NcclResult Receive(IntPtr data, nuint count, NcclType type, int peer, IntPtr handle, IntPtr stream) =>
        Transfer(handle, stream, new FakeTransfer(false, peer, data, FakeReduction.SizeOf(type) * (long)count));

    [UnmanagedCallersOnly]
    private static NcclResult GroupStart()
    {
        if (_group is not null)
            return NcclResult.InvalidUsage;
        _group = [];
        return NcclResult.Success;
    }

    [UnmanagedCallersOnly]
    private static NcclResult GroupEnd()
    {
        if (_group is not { } group)
            return NcclResult.InvalidUsage;
        _group = null;
        return group.Count == 0 ? NcclResult.Success : Launch(group[0].Communicator, group.ConvertAll(each => each.Transfer));
    }

    [UnmanagedCallersOnly]
    private static NcclResult CreatePreMulSum(int* op, void* scalar, NcclType type, int residence, IntPtr handle)
    {
        if (residence != 1 || Of(handle) is not { } one)
            return NcclResult.InvalidArgument;
        *op = one.AddFactor(FakeReduction.Read((IntPtr)scalar, 0, type));
        return NcclResult.Success;
    }

    [UnmanagedCallersOnly]
    private static NcclResult DestroyReduction(int op, IntPtr handle) => Of(handle)?.RemoveFactor(op) == true ? NcclResult.Success : NcclResult.InvalidArgument;

    /// <summary>A communicator that may be used now, by a thread on which its device is current.</summary>
    private static FakeCommunicator? Of(IntPtr handle) =>
        Communicators.TryGetValue(handle, out var one) && one.Device == FakeCuda.CurrentDevice && !one.IsPending ? one : null;

    private static void ReduceAll(FakeCommunicator one, FakeMeeting meeting, int op, NcclType type, long count, IntPtr to)
    {
        if (meeting.Result is null)
        {
            FakeReduction.Apply(meeting.Copies!, one.FactorOf(op), op, type, 0, count, to);
            meeting.Result = FakeReduction.Snapshot(to, count * FakeReduction.SizeOf(type));
        }

        FakeReduction.Copy(meeting.Result, 0, meeting.Result.Length, to);
    }

    private static NcclResult Collective(IntPtr handle, IntPtr stream, string call, IntPtr send, IntPtr receive, Action<FakeCommunicator, FakeMeeting> finish)
    {
        if (Of(handle) is not { } one || FakeCuda.StreamOf(stream) is not { } queue || queue.Device != one.Device || _group is not null)
            return NcclResult.InvalidArgument;
        return one.Defer(() => queue.Put(call, () => one.Run(call, send, meeting => finish(one, meeting))));
    }

    private static NcclResult Transfer(IntPtr handle, IntPtr stream, FakeTransfer transfer)
    {
        if (Of(handle) is not { } one || FakeCuda.StreamOf(stream) is not { } queue || queue.Device != one.Device)
            return NcclResult.InvalidArgument;
        one.TransferStream = queue;
        if (_group is null)
            return transfer.Peer == one.Rank ? NcclResult.InvalidUsage : Launch(one, [transfer]);
        _group.Add((one, transfer));
        return NcclResult.Success;
    }

    private static NcclResult Launch(FakeCommunicator one, List<FakeTransfer> transfers)
    {
        var queue = one.TransferStream!;
        return one.Defer(() => queue.Put($"transfers {transfers.Count}", () => one.Exchange(transfers)));
    }
}
