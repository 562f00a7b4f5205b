using System.Runtime.InteropServices;
using FabricSharp.Collectives;
using FabricSharp.Collectives.Nccl;
using FabricSharp.Interop.Cuda;
using FabricSharp.Interop.Nccl;

namespace FabricSharp.Tests.Collectives.Nccl;

public unsafe class NcclLibraryTests
{
    [Fact]
    public void Constructor_OldLibrary_IsRefused()
    {
        var e = Assert.Throws<NotSupportedException>(() => new NcclLibrary(name => name == "ncclGetVersion" ? (IntPtr)(delegate* unmanaged<int*, NcclResult>)&OldVersion : FakeNccl.Export(name)));
        Assert.Equal("NCCL 2.8.4 is too old, 2.14.3 or later is needed", e.Message);
    }

    [Fact]
    public void Constructor_FunctionMissing_NamesIt() =>
        Assert.Contains("ncclCommAbort", Assert.Throws<EntryPointNotFoundException>(() => new NcclLibrary(name => name == "ncclCommAbort" ? 0 : FakeNccl.Export(name))).Message);

    [Fact]
    public void Version_Code_IsReadable() => Assert.Equal("2.27.5", FakeNccl.Engine.Nccl.Version);

    [Fact]
    public void MissingReason_WithoutCuda_SaysWhatToInstall()
    {
        Assert.SkipWhen(NcclEngine.MissingReason is null, "This machine has CUDA and NCCL: the reason for lacking them cannot be seen.");
        Assert.Matches("CUDA|NCCL|nccl", NcclEngine.MissingReason);
        Assert.Null(NcclLibrary.Loaded);
        using var store = new HashStore();
        var e = Assert.Throws<DistributedException>(() => ProcessGroup.Create("nccl", store, 0, 1));
        Assert.StartsWith("The 'nccl' back end cannot be used on this machine: ", e.Message);
    }

    [Fact]
    public void Cuda_Failure_NamesFunctionAndText()
    {
        var e = Assert.Throws<CudaException>(() => FakeNccl.Engine.Cuda.DestroyStream(123));
        Assert.Equal("cudaStreamDestroy failed: a simulated error (CUDA error 1).", e.Message);
    }

    [UnmanagedCallersOnly]
    private static NcclResult OldVersion(int* version)
    {
        *version = 2804;
        return NcclResult.Success;
    }
}
