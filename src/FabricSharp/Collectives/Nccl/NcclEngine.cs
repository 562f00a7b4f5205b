using FabricSharp.Interop.Cuda;
using FabricSharp.Interop.LibTorch;
using FabricSharp.Interop.Nccl;
using static TorchSharp.torch;

namespace FabricSharp.Collectives.Nccl;

/// <summary>The libraries behind the <c>nccl</c> back end, and where the tensors live that they work on.</summary>
/// <param name="Nccl">NCCL.</param>
/// <param name="Cuda">The CUDA runtime beside libtorch's.</param>
/// <param name="DeviceAt">TorchSharp's device of a number. Another kind than CUDA in tests.</param>
internal sealed record NcclEngine(NcclLibrary Nccl, CudaRuntime Cuda, Func<int, Device> DeviceAt)
{
    /// <summary>Why <see cref="Loaded"/> throws; null where the back end can be used.</summary>
    public static string? MissingReason => NcclLibrary.MissingReason ?? LibTorchLibrary.NotSupportedReason;

    /// <exception cref="DistributedException">The machine has not what the back end needs.</exception>
    public static NcclEngine Loaded => MissingReason is null && NcclLibrary.Loaded is { } nccl && CudaRuntime.Loaded is { } cuda
        ? new NcclEngine(nccl, cuda, index => new Device($"cuda:{index}"))
        : throw new DistributedException($"The 'nccl' back end cannot be used on this machine: {MissingReason}.");
}
