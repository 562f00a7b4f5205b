using System.Runtime.InteropServices;

namespace FabricSharp.Interop.Nccl;

/// <summary>What NCCL's functions return. nccl.h: ncclResult_t.</summary>
internal enum NcclResult
{
    Success = 0,
    UnhandledCudaError = 1,
    SystemError = 2,
    InternalError = 3,
    InvalidArgument = 4,
    InvalidUsage = 5,
    RemoteError = 6,
    InProgress = 7,
}

/// <summary>nccl.h: ncclDataType_t.</summary>
internal enum NcclType
{
    Int8 = 0,
    UInt8 = 1,
    Int32 = 2,
    UInt32 = 3,
    Int64 = 4,
    UInt64 = 5,
    Float16 = 6,
    Float32 = 7,
    Float64 = 8,
    BFloat16 = 9,
}

/// <summary>nccl.h: ncclRedOp_t. Values from 5 on are made by <see cref="NcclLibrary.CreatePreMulSum"/>.</summary>
internal enum NcclReduction
{
    Sum = 0,
    Product = 1,
    Max = 2,
    Min = 3,
    Average = 4,
}

/// <summary>What the ranks of a communicator recognise each other by. nccl.h: ncclUniqueId; passed by value.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct NcclUniqueId
{
    public const int Size = 128;

    public fixed byte Bytes[Size];

    public readonly byte[] ToArray()
    {
        fixed (byte* bytes = Bytes)
            return new ReadOnlySpan<byte>(bytes, Size).ToArray();
    }

    public static NcclUniqueId From(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length != Size)
            throw new ArgumentException($"An identity of NCCL has {Size} bytes, not {bytes.Length}.", nameof(bytes));
        NcclUniqueId id;
        bytes.CopyTo(new Span<byte>(id.Bytes, Size));
        return id;
    }
}

/// <summary>
/// nccl.h: ncclConfig_t as of NCCL 2.18, a structure that only ever grows: a library copies as many bytes as <see cref="Bytes"/> says, at most as
/// many as it knows itself, and takes defaults for what is newer than <see cref="Version"/>.
/// </summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NcclConfig
{
    private const int Undefined = int.MinValue;

    public nuint Bytes;
    public uint Magic;
    public uint Version;
    public int Blocking;
    public int CgaClusterSize;
    public int MinCtas;
    public int MaxCtas;
    public IntPtr NetName;
    public int SplitShare;

    /// <summary>A padding in 2.18, a field since 2.25.</summary>
    public int TrafficClass;

    /// <summary>Nothing set but that calls return before they are over, so that every wait is ours and has a limit.</summary>
    public static unsafe NcclConfig NonBlocking() => new()
    {
        Bytes = (nuint)sizeof(NcclConfig),
        Magic = 0xcafebeef,
        Version = 21800,
        Blocking = 0,
        CgaClusterSize = Undefined,
        MinCtas = Undefined,
        MaxCtas = Undefined,
        NetName = IntPtr.Zero,
        SplitShare = Undefined,
        TrafficClass = Undefined,
    };
}
