using System.Runtime.InteropServices;
using FabricSharp.Interop.Cuda;

namespace FabricSharp.Interop.Nccl;

/// <summary>
/// NVIDIA's collective communication library. Functions are found by name, so that another library (in tests a simulated one) can stand behind
/// them. Communicators are made non-blocking: a function may answer <see cref="NcclResult.InProgress"/>, and is over when
/// <see cref="AsyncResult"/> answers something else. The device must be current on the calling thread.
/// </summary>
internal sealed unsafe class NcclLibrary
{
    /// <summary>The file of the library, where it is not to be looked for.</summary>
    public const string PathVariable = "FABRIC_NCCL_LIBRARY";

    /// <summary>The first version with configurable communicators.</summary>
    private const int OldestVersion = 21403;

    private static readonly Lazy<(NcclLibrary? Library, string? Reason)> Probe = new(Load);

    private readonly delegate* unmanaged<int*, NcclResult> _getVersion;
    private readonly delegate* unmanaged<NcclUniqueId*, NcclResult> _getUniqueId;
    private readonly delegate* unmanaged<IntPtr*, int, NcclUniqueId, int, NcclConfig*, NcclResult> _initRank;
    private readonly delegate* unmanaged<IntPtr, NcclResult> _finalize;
    private readonly delegate* unmanaged<IntPtr, NcclResult> _destroy;
    private readonly delegate* unmanaged<IntPtr, NcclResult> _abort;
    private readonly delegate* unmanaged<IntPtr, NcclResult*, NcclResult> _getAsyncError;
    private readonly delegate* unmanaged<NcclResult, IntPtr> _getErrorString;
    private readonly delegate* unmanaged<IntPtr, IntPtr> _getLastError;
    private readonly delegate* unmanaged<IntPtr, IntPtr, nuint, NcclType, int, IntPtr, IntPtr, NcclResult> _allReduce;
    private readonly delegate* unmanaged<IntPtr, IntPtr, nuint, NcclType, int, IntPtr, IntPtr, NcclResult> _broadcast;
    private readonly delegate* unmanaged<IntPtr, IntPtr, nuint, NcclType, int, int, IntPtr, IntPtr, NcclResult> _reduce;
    private readonly delegate* unmanaged<IntPtr, IntPtr, nuint, NcclType, IntPtr, IntPtr, NcclResult> _allGather;
    private readonly delegate* unmanaged<IntPtr, IntPtr, nuint, NcclType, int, IntPtr, IntPtr, NcclResult> _reduceScatter;
    private readonly delegate* unmanaged<IntPtr, nuint, NcclType, int, IntPtr, IntPtr, NcclResult> _send;
    private readonly delegate* unmanaged<IntPtr, nuint, NcclType, int, IntPtr, IntPtr, NcclResult> _receive;
    private readonly delegate* unmanaged<NcclResult> _groupStart;
    private readonly delegate* unmanaged<NcclResult> _groupEnd;
    private readonly delegate* unmanaged<int*, void*, NcclType, int, IntPtr, NcclResult> _createPreMulSum;
    private readonly delegate* unmanaged<int, IntPtr, NcclResult> _destroyReduction;

    /// <param name="export">The address of a function of NCCL by name; zero where it is not there.</param>
    /// <exception cref="EntryPointNotFoundException">A function that cannot be done without is missing.</exception>
    /// <exception cref="NotSupportedException">The library is too old.</exception>
    public NcclLibrary(Func<string, IntPtr> export)
    {
        IntPtr Required(string name) => export(name) is var address && address != IntPtr.Zero ? address : throw new EntryPointNotFoundException($"NCCL lacks {name}");

        _getVersion = (delegate* unmanaged<int*, NcclResult>)Required("ncclGetVersion");
        _getErrorString = (delegate* unmanaged<NcclResult, IntPtr>)Required("ncclGetErrorString");
        int version;
        Check(_getVersion(&version), "ncclGetVersion");
        if (version < OldestVersion)
            throw new NotSupportedException($"NCCL {TextOf(version)} is too old, {TextOf(OldestVersion)} or later is needed");
        Version = TextOf(version);
        _getUniqueId = (delegate* unmanaged<NcclUniqueId*, NcclResult>)Required("ncclGetUniqueId");
        _initRank = (delegate* unmanaged<IntPtr*, int, NcclUniqueId, int, NcclConfig*, NcclResult>)Required("ncclCommInitRankConfig");
        _finalize = (delegate* unmanaged<IntPtr, NcclResult>)Required("ncclCommFinalize");
        _destroy = (delegate* unmanaged<IntPtr, NcclResult>)Required("ncclCommDestroy");
        _abort = (delegate* unmanaged<IntPtr, NcclResult>)Required("ncclCommAbort");
        _getAsyncError = (delegate* unmanaged<IntPtr, NcclResult*, NcclResult>)Required("ncclCommGetAsyncError");
        _getLastError = (delegate* unmanaged<IntPtr, IntPtr>)Required("ncclGetLastError");
        _allReduce = (delegate* unmanaged<IntPtr, IntPtr, nuint, NcclType, int, IntPtr, IntPtr, NcclResult>)Required("ncclAllReduce");
        _broadcast = (delegate* unmanaged<IntPtr, IntPtr, nuint, NcclType, int, IntPtr, IntPtr, NcclResult>)Required("ncclBroadcast");
        _reduce = (delegate* unmanaged<IntPtr, IntPtr, nuint, NcclType, int, int, IntPtr, IntPtr, NcclResult>)Required("ncclReduce");
        _allGather = (delegate* unmanaged<IntPtr, IntPtr, nuint, NcclType, IntPtr, IntPtr, NcclResult>)Required("ncclAllGather");
        _reduceScatter = (delegate* unmanaged<IntPtr, IntPtr, nuint, NcclType, int, IntPtr, IntPtr, NcclResult>)Required("ncclReduceScatter");
        _send = (delegate* unmanaged<IntPtr, nuint, NcclType, int, IntPtr, IntPtr, NcclResult>)Required("ncclSend");
        _receive = (delegate* unmanaged<IntPtr, nuint, NcclType, int, IntPtr, IntPtr, NcclResult>)Required("ncclRecv");
        _groupStart = (delegate* unmanaged<NcclResult>)Required("ncclGroupStart");
        _groupEnd = (delegate* unmanaged<NcclResult>)Required("ncclGroupEnd");
        _createPreMulSum = (delegate* unmanaged<int*, void*, NcclType, int, IntPtr, NcclResult>)export("ncclRedOpCreatePreMulSum");
        _destroyReduction = (delegate* unmanaged<int, IntPtr, NcclResult>)export("ncclRedOpDestroy");
    }

    /// <summary>The library of this machine; null where there is none.</summary>
    public static NcclLibrary? Loaded => Probe.Value.Library;

    /// <summary>Why <see cref="Loaded"/> is null; null where it is not.</summary>
    public static string? MissingReason => Probe.Value.Reason;

    /// <summary>For example <c>2.27.5</c>.</summary>
    public string Version { get; }

    /// <summary>Whether elements can be multiplied on their way into a sum.</summary>
    public bool HasPreMulSum => _createPreMulSum != null && _destroyReduction != null;

    public NcclUniqueId NewUniqueId()
    {
        NcclUniqueId id;
        Check(_getUniqueId(&id), "ncclGetUniqueId");
        return id;
    }

    /// <summary>Begins to join a communicator. Collective.</summary>
    public NcclResult BeginJoin(out IntPtr communicator, int size, NcclUniqueId id, int rank)
    {
        var config = NcclConfig.NonBlocking();
        IntPtr made;
        var result = _initRank(&made, size, id, rank, &config);
        communicator = made;
        return result;
    }

    public NcclResult BeginFinalize(IntPtr communicator) => _finalize(communicator);

    /// <summary>Frees a communicator that was finalised.</summary>
    public NcclResult Destroy(IntPtr communicator) => _destroy(communicator);

    /// <summary>Ends what the communicator is doing on this rank, kernels included, and frees it.</summary>
    public NcclResult Abort(IntPtr communicator) => _abort(communicator);

    /// <summary>How what was begun last is going, or what has gone wrong since.</summary>
    public NcclResult AsyncResult(IntPtr communicator)
    {
        NcclResult state;
        var result = _getAsyncError(communicator, &state);
        return result == NcclResult.Success ? state : result;
    }

    public NcclResult AllReduce(IntPtr send, IntPtr receive, long count, NcclType type, int reduction, IntPtr communicator, IntPtr stream) =>
        _allReduce(send, receive, (nuint)count, type, reduction, communicator, stream);

    public NcclResult Broadcast(IntPtr send, IntPtr receive, long count, NcclType type, int root, IntPtr communicator, IntPtr stream) =>
        _broadcast(send, receive, (nuint)count, type, root, communicator, stream);

    public NcclResult Reduce(IntPtr send, IntPtr receive, long count, NcclType type, int reduction, int root, IntPtr communicator, IntPtr stream) =>
        _reduce(send, receive, (nuint)count, type, reduction, root, communicator, stream);

    /// <param name="send">This rank's part.</param>
    /// <param name="receive">All parts.</param>
    /// <param name="count">Elements of one part.</param>
    /// <param name="type">Of the elements.</param>
    /// <param name="communicator">The ranks.</param>
    /// <param name="stream">Where the work is put.</param>
    public NcclResult AllGather(IntPtr send, IntPtr receive, long count, NcclType type, IntPtr communicator, IntPtr stream) =>
        _allGather(send, receive, (nuint)count, type, communicator, stream);

    /// <param name="send">All parts.</param>
    /// <param name="receive">This rank's part.</param>
    /// <param name="count">Elements of one part.</param>
    /// <param name="type">Of the elements.</param>
    /// <param name="reduction">How elements are combined.</param>
    /// <param name="communicator">The ranks.</param>
    /// <param name="stream">Where the work is put.</param>
    public NcclResult ReduceScatter(IntPtr send, IntPtr receive, long count, NcclType type, int reduction, IntPtr communicator, IntPtr stream) =>
        _reduceScatter(send, receive, (nuint)count, type, reduction, communicator, stream);

    public NcclResult Send(IntPtr data, long count, NcclType type, int peer, IntPtr communicator, IntPtr stream) =>
        _send(data, (nuint)count, type, peer, communicator, stream);

    public NcclResult Receive(IntPtr data, long count, NcclType type, int peer, IntPtr communicator, IntPtr stream) =>
        _receive(data, (nuint)count, type, peer, communicator, stream);

    /// <summary>What this thread calls from now on is begun together by <see cref="EndGroup"/>.</summary>
    public NcclResult StartGroup() => _groupStart();

    public NcclResult EndGroup() => _groupEnd();

    /// <summary>A reduction that multiplies each element by <paramref name="factor"/> before it is summed.</summary>
    /// <param name="reduction">The reduction, for the one communicator.</param>
    /// <param name="factor">One element of <paramref name="type"/> in host memory, read during the call.</param>
    /// <param name="type">Of the elements.</param>
    /// <param name="communicator">The ranks.</param>
    public NcclResult CreatePreMulSum(out int reduction, ReadOnlySpan<byte> factor, NcclType type, IntPtr communicator)
    {
        const int InHostMemory = 1;
        int made;
        NcclResult result;
        fixed (byte* scalar = factor)
            result = _createPreMulSum(&made, scalar, type, InHostMemory, communicator);
        reduction = made;
        return result;
    }

    public NcclResult DestroyReduction(int reduction, IntPtr communicator) => _destroyReduction(reduction, communicator);

    /// <summary>What a result means, with what NCCL said last.</summary>
    public NcclException Failure(string function, NcclResult result, IntPtr communicator = default)
    {
        var last = communicator == IntPtr.Zero ? null : Marshal.PtrToStringUTF8(_getLastError(communicator));
        return new NcclException(function, result, $"{Marshal.PtrToStringUTF8(_getErrorString(result))}{(string.IsNullOrWhiteSpace(last) ? "" : $"; last message of NCCL: {last.Trim()}")}");
    }

    private void Check(NcclResult result, string function)
    {
        if (result != NcclResult.Success)
            throw Failure(function, result);
    }

    /// <summary>major × 10000 + minor × 100 + patch; up to 2.8 it was major × 1000.</summary>
    private static string TextOf(int version) =>
        version < 10000 ? $"{version / 1000}.{version / 100 % 10}.{version % 100}" : $"{version / 10000}.{version / 100 % 100}.{version % 100}";

    private static (NcclLibrary? Library, string? Reason) Load()
    {
        if (CudaRuntime.Loaded is null)
            return (null, CudaRuntime.MissingReason);
        try
        {
            if (Environment.GetEnvironmentVariable(PathVariable) is { Length: > 0 } path)
                return NativeLibrary.TryLoad(path, out var named) ? (Over(named), null) : (null, $"{PathVariable}={path} is no library that can be loaded");
            string?[] candidates = [LoadedLibraries.PathOf("libnccl.so"), .. LoadedLibraries.Beside("libtorch_cuda.so", "libnccl*.so.2*"), "libnccl.so.2", LoadedLibraries.PathOf("libtorch_cuda.so")];
            foreach (var candidate in candidates)
                if (candidate is not null && NativeLibrary.TryLoad(candidate, out var library) && NativeLibrary.TryGetExport(library, "ncclCommInitRankConfig", out _))
                    return (Over(library), null);
            return (null, $"libnccl.so.2 was found neither beside libtorch_cuda.so nor on the loader's path. Install NVIDIA's package libnccl2, or set {PathVariable} to the file");
        }
        catch (Exception e) when (e is EntryPointNotFoundException or NotSupportedException or NcclException or BadImageFormatException or IOException or UnauthorizedAccessException)
        {
            return (null, $"NCCL cannot be used: {e.Message}");
        }
    }

    private static NcclLibrary Over(IntPtr library) => new(name => NativeLibrary.TryGetExport(library, name, out var address) ? address : IntPtr.Zero);
}
