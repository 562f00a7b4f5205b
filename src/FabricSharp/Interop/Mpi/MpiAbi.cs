using System.Runtime.InteropServices;

namespace FabricSharp.Interop.Mpi;

/// <summary>
/// What the implementations of MPI do not have in common: how handles look and the numbers of a few constants. Handles are passed as
/// pointer-sized values everywhere: where they are 32-bit integers the callee looks at the lower half only.
/// </summary>
/// <param name="Name">For messages.</param>
/// <param name="World">MPI_COMM_WORLD.</param>
/// <param name="Byte">MPI_BYTE.</param>
/// <param name="ErrorsReturn">MPI_ERRORS_RETURN.</param>
/// <param name="ThreadSerialized">MPI_THREAD_SERIALIZED.</param>
/// <param name="ThreadMultiple">MPI_THREAD_MULTIPLE.</param>
/// <param name="Undefined">MPI_UNDEFINED.</param>
internal sealed record MpiAbi(
    string Name, IntPtr World, IntPtr Byte, IntPtr ErrorsReturn, int ThreadSerialized, int ThreadMultiple, int Undefined)
{
    /// <summary>Enough for every implementation's MPI_MAX_LIBRARY_VERSION_STRING and MPI_MAX_ERROR_STRING.</summary>
    public const int TextBytes = 8192;

    /// <summary>MPICH and what shares its binary interface (Intel MPI, MVAPICH, Cray MPICH): 32-bit handles of fixed value.</summary>
    public static MpiAbi Mpich { get; } = new(
        "MPICH", World: 0x44000000, Byte: 0x4c00010d, ErrorsReturn: 0x54000001, ThreadSerialized: 2, ThreadMultiple: 3, Undefined: -32766);

    /// <summary>The standard ABI of MPI 5.0: pointer-sized handles of fixed value.</summary>
    public static MpiAbi Standard { get; } = new(
        "MPI 5 ABI", World: 0x101, Byte: 0x247, ErrorsReturn: 0x142, ThreadSerialized: 2048, ThreadMultiple: 4096, Undefined: -32766);

    /// <summary>Whether the file at <paramref name="path"/> offers the standard ABI: its name says so, its functions do not.</summary>
    public static bool IsStandard(string path) => Path.GetFileName(path).StartsWith("libmpi_abi", StringComparison.Ordinal);

    /// <summary>Open MPI: handles are the addresses of objects that the library exports.</summary>
    public static MpiAbi? TryOpenMpi(IntPtr library)
    {
        if (!NativeLibrary.TryGetExport(library, "ompi_mpi_comm_world", out var world))
            return null;
        return new(
            "Open MPI", world, NativeLibrary.GetExport(library, "ompi_mpi_byte"),
            NativeLibrary.GetExport(library, "ompi_mpi_errors_return"), ThreadSerialized: 2, ThreadMultiple: 3, Undefined: -32766);
    }

    /// <summary>The interface of a library that is none of the others, by what it says of itself.</summary>
    public static MpiAbi? ByVersion(string version) =>
        new[] { "MPICH", "Intel(R) MPI", "MVAPICH" }.Any(name => version.Contains(name, StringComparison.OrdinalIgnoreCase)) ? Mpich : null;
}
