using FabricSharp.Interop.Mpi;

namespace FabricSharp.Tests.Interop;

public class MpiLibraryTests
{
    [Theory]
    [InlineData("OMPI_COMM_WORLD_SIZE", "libmpi.so.40")]
    [InlineData("PMI_RANK", "libmpi.so.12")]
    [InlineData("MV2_COMM_WORLD_SIZE", "libmpi.so.12")]
    [InlineData("PMIX_RANK", "libmpi.so.40")]
    [InlineData(null, "libmpi.so.40")]
    public void Candidates_UnderALauncher_BeginWithItsLibrary(string? variable, string expected)
    {
        var candidates = MpiLibrary.Candidates(name => name == variable ? "2" : null);
        Assert.Equal(expected, candidates[0]);
        Assert.Superset(new HashSet<string> { "libmpi.so.40", "libmpi.so.12", "libmpi_abi.so.0", "libmpi_abi.so" }, candidates.ToHashSet());
        Assert.Equal(candidates.Count, candidates.Distinct().Count());
    }

    [Fact]
    public void Candidates_LibraryNamed_AreThatOneOnly() =>
        Assert.Equal(["/opt/mpi/lib/libmpi.so"], MpiLibrary.Candidates(name => name == "FABRIC_MPI_LIBRARY" ? "/opt/mpi/lib/libmpi.so" : "2"));

    [Theory]
    [InlineData("PMIX_RANK", "PMIX_RANK")]
    [InlineData("LOCAL_RANK", null)]
    public void LauncherVariable_OfMpiOnly_Counts(string set, string? expected) => Assert.Equal(expected, MpiLibrary.LauncherVariable(name => name == set ? "0" : null));

    [Theory]
    [InlineData("/nowhere/libmpi.so", "not found")]
    [InlineData("libc.so.6", "MPI_Get_library_version")]
    public void Load_WhatIsNoMpi_SaysWhatWasTriedAndWhatToDo(string library, string reason)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "MPI is used on Linux only.");
        var (api, text) = MpiLibrary.Load(name => name == "FABRIC_MPI_LIBRARY" ? library : null);
        Assert.Null(api);
        Assert.Contains(library, text);
        Assert.Contains(reason, text);
        Assert.Contains("apt-get install openmpi-bin", text);
    }

    [Fact]
    public void Load_OpenMpi_TakesItsExportedObjectsForHandles()
    {
        var (api, reason) = MpiLibrary.Load(name => name == "FABRIC_MPI_LIBRARY" ? "libmpi.so.40" : null);
        Assert.SkipWhen(api is null, reason ?? "");
        Assert.Equal("Open MPI", api.Abi);
        Assert.StartsWith("Open MPI v", api.Version);
        Assert.True((long)api.World > 0x10000, "an address");
    }

    /// <summary>From MPICH's mpi.h (4.0.2): these numbers are its binary interface.</summary>
    [Fact]
    public void Mpich_Constants_ArePinned() => Assert.Equal(
        (0x44000000, 0x4c00010d, 0x54000001, 2, 3, -32766),
        ((int)MpiAbi.Mpich.World, (int)MpiAbi.Mpich.Byte, (int)MpiAbi.Mpich.ErrorsReturn, MpiAbi.Mpich.ThreadSerialized, MpiAbi.Mpich.ThreadMultiple, MpiAbi.Mpich.Undefined));

    /// <summary>From the MPI Forum's header of the standard ABI, version 1.0.</summary>
    [Fact]
    public void Standard_Constants_ArePinned() => Assert.Equal(
        (0x101, 0x247, 0x142, 2048, 4096, -32766),
        ((int)MpiAbi.Standard.World, (int)MpiAbi.Standard.Byte, (int)MpiAbi.Standard.ErrorsReturn, MpiAbi.Standard.ThreadSerialized, MpiAbi.Standard.ThreadMultiple, MpiAbi.Standard.Undefined));

    [Theory]
    [InlineData("MPICH Version:      4.0.2", "MPICH")]
    [InlineData("Intel(R) MPI Library 2021.13 for Linux* OS", "MPICH")]
    [InlineData("MVAPICH Version:\t4.0", "MPICH")]
    [InlineData("Some other MPI 1.0", null)]
    public void ByVersion_KnownFamilies_AreTold(string version, string? abi) => Assert.Equal(abi, MpiAbi.ByVersion(version)?.Name);

    [Theory]
    [InlineData("/usr/lib/libmpi_abi.so.0", true)]
    [InlineData("libmpi_abi.so", true)]
    [InlineData("/opt/mpich/lib/libmpi.so.12", false)]
    public void IsStandard_Always_GoesByTheName(string path, bool expected) => Assert.Equal(expected, MpiAbi.IsStandard(path));
}
