using System.Runtime.InteropServices;
using System.Text;

namespace FabricSharp.Interop.Mpi;

/// <summary>
/// The functions of an MPI library that we call, typed and checked: bytes between two ranks, and communicators. Nothing here is safe for
/// several threads; whoever calls holds one lock for all of MPI.
/// </summary>
internal sealed unsafe class MpiApi
{
    private const string Prefix = "MPI_";

    private readonly MpiAbi _abi;
    private readonly delegate* unmanaged<int*, byte***, int, int*, int> _initThread;
    private readonly delegate* unmanaged<int*, int> _initialized, _finalized, _queryThread;
    private readonly delegate* unmanaged<int> _finalize;
    private readonly delegate* unmanaged<IntPtr, int, int> _abort;
    private readonly delegate* unmanaged<IntPtr, int*, int> _commRank, _commSize;
    private readonly delegate* unmanaged<IntPtr, IntPtr*, int> _commDup;
    private readonly delegate* unmanaged<IntPtr, int, int, IntPtr*, int> _commSplit;
    private readonly delegate* unmanaged<IntPtr*, int> _commFree, _cancel;
    private readonly delegate* unmanaged<IntPtr, IntPtr, int> _commSetErrorHandler;
    private readonly delegate* unmanaged<byte*, int, IntPtr, int, int, IntPtr, IntPtr*, int> _isend, _irecv;
    private readonly delegate* unmanaged<IntPtr*, int*, byte*, int> _test;
    private readonly delegate* unmanaged<int, byte*, int*, int> _errorString;

    private MpiApi(IntPtr library, string name, string version, MpiAbi abi)
    {
        IntPtr Export(string function) => NativeLibrary.GetExport(library, Prefix + function);
        (_abi, Name, Version) = (abi, name, version);
        _initThread = (delegate* unmanaged<int*, byte***, int, int*, int>)Export("Init_thread");
        _initialized = (delegate* unmanaged<int*, int>)Export("Initialized");
        _finalized = (delegate* unmanaged<int*, int>)Export("Finalized");
        _queryThread = (delegate* unmanaged<int*, int>)Export("Query_thread");
        _finalize = (delegate* unmanaged<int>)Export("Finalize");
        _abort = (delegate* unmanaged<IntPtr, int, int>)Export("Abort");
        _commRank = (delegate* unmanaged<IntPtr, int*, int>)Export("Comm_rank");
        _commSize = (delegate* unmanaged<IntPtr, int*, int>)Export("Comm_size");
        _commDup = (delegate* unmanaged<IntPtr, IntPtr*, int>)Export("Comm_dup");
        _commSplit = (delegate* unmanaged<IntPtr, int, int, IntPtr*, int>)Export("Comm_split");
        _commFree = (delegate* unmanaged<IntPtr*, int>)Export("Comm_free");
        _cancel = (delegate* unmanaged<IntPtr*, int>)Export("Cancel");
        _commSetErrorHandler = (delegate* unmanaged<IntPtr, IntPtr, int>)Export("Comm_set_errhandler");
        _isend = (delegate* unmanaged<byte*, int, IntPtr, int, int, IntPtr, IntPtr*, int>)Export("Isend");
        _irecv = (delegate* unmanaged<byte*, int, IntPtr, int, int, IntPtr, IntPtr*, int>)Export("Irecv");
        _test = (delegate* unmanaged<IntPtr*, int*, byte*, int>)Export("Test");
        _errorString = (delegate* unmanaged<int, byte*, int*, int>)Export("Error_string");
    }

    /// <summary>The file, or the name by which it was found.</summary>
    public string Name { get; }

    /// <summary>What the library says of itself, its first line.</summary>
    public string Version { get; }

    /// <summary>The binary interface.</summary>
    public string Abi => _abi.Name;

    /// <summary>All ranks of the job.</summary>
    public IntPtr World => _abi.World;

    /// <summary>Resolves the functions. Calls none but the one that may be called before MPI is initialised.</summary>
    /// <exception cref="EntryPointNotFoundException">A function is missing.</exception>
    /// <exception cref="MpiException">It is an implementation whose handles we do not know.</exception>
    public static MpiApi Over(IntPtr library, string name)
    {
        var version = ReadVersion(library);
        var abi = MpiAbi.IsStandard(name) ? MpiAbi.Standard : MpiAbi.TryOpenMpi(library) ?? MpiAbi.ByVersion(version)
            ?? throw new MpiException($"an implementation that is not known ('{version}'): Open MPI, those with MPICH's binary interface, and the standard ABI (libmpi_abi.so) are");
        return new MpiApi(library, name, version, abi);
    }

    /// <summary>Initialises MPI for this process, on the thread that is to finalise it. Waits for all ranks of the job to do so.</summary>
    /// <returns>Whether it was done here: false where the program has done it before.</returns>
    public bool Initialize()
    {
        int initialized, granted;
        Check(_initialized(&initialized), "Initialized");
        if (initialized == 0)
            Check(_initThread(null, null, _abi.ThreadMultiple, &granted), "Init_thread");
        else
            Check(_queryThread(&granted), "Query_thread");
        if (granted < (initialized == 0 ? _abi.ThreadSerialized : _abi.ThreadMultiple))
            throw new MpiException(
                $"{Version} grants thread level {granted}{(initialized == 0 ? "" : " to this program, which has initialised MPI itself")}; " +
                $"calls from several threads need {(initialized == 0 ? "MPI_THREAD_SERIALIZED" : "MPI_THREAD_MULTIPLE")}");
        Check(_commSetErrorHandler(World, _abi.ErrorsReturn), "Comm_set_errhandler");
        return initialized == 0;
    }

    /// <summary>Whether MPI was finalised.</summary>
    public bool IsFinalized
    {
        get
        {
            int finalized;
            return _finalized(&finalized) != 0 || finalized != 0;
        }
    }

    /// <summary>Ends MPI for this process. Waits for all ranks of the job to do so.</summary>
    public void FinalizeMpi() => Check(_finalize(), "Finalize");

    /// <summary>Ends all processes of the job.</summary>
    public void Abort(int code) => _abort(World, code);

    public int RankIn(IntPtr communicator)
    {
        int rank;
        Check(_commRank(communicator, &rank), "Comm_rank");
        return rank;
    }

    public int SizeOf(IntPtr communicator)
    {
        int size;
        Check(_commSize(communicator, &size), "Comm_size");
        return size;
    }

    /// <summary>The same ranks, with messages of their own. Collective, and waits for all of them.</summary>
    public IntPtr Duplicate(IntPtr communicator)
    {
        IntPtr made = 0;
        Check(_commDup(communicator, &made), "Comm_dup");
        return WithErrorsReturned(made);
    }

    /// <summary>The ranks that call with a number, in the order of the numbers. Collective over all ranks of <paramref name="communicator"/>, and waits for them.</summary>
    /// <param name="communicator">All ranks.</param>
    /// <param name="key">This rank's place among those that take part; null if it does not.</param>
    /// <returns>Zero where this rank takes no part.</returns>
    public IntPtr Split(IntPtr communicator, int? key)
    {
        IntPtr made = 0;
        Check(_commSplit(communicator, key is null ? _abi.Undefined : 0, key ?? 0, &made), "Comm_split");
        return key is null ? IntPtr.Zero : WithErrorsReturned(made);
    }

    /// <summary>Gives a communicator back on which nothing is under way.</summary>
    public void Free(IntPtr communicator) => Check(_commFree(&communicator), "Comm_free");

    /// <summary>Starts sending; the memory must not change before the request is over.</summary>
    public IntPtr Send(byte* data, int bytes, int peer, int tag, IntPtr communicator)
    {
        IntPtr request = 0;
        Check(_isend(data, bytes, _abi.Byte, peer, tag, communicator, &request), "Isend");
        return request;
    }

    /// <summary>Starts receiving at most <paramref name="bytes"/>; the memory is written until the request is over.</summary>
    public IntPtr Receive(byte* data, int bytes, int peer, int tag, IntPtr communicator)
    {
        IntPtr request = 0;
        Check(_irecv(data, bytes, _abi.Byte, peer, tag, communicator, &request), "Irecv");
        return request;
    }

    /// <summary>Whether a request is over. Lets MPI move whatever can be moved. A request that is over is gone.</summary>
    public bool Test(IntPtr request)
    {
        int done;
        var status = stackalloc byte[64]; // larger than any implementation's; nothing in it is needed
        Check(_test(&request, &done, status), "Test");
        return done != 0;
    }

    /// <summary>Asks for a receive to be given up, which ends it unless its message has come.</summary>
    public void Cancel(IntPtr request) => Check(_cancel(&request), "Cancel");

    private static string ReadVersion(IntPtr library)
    {
        var getVersion = (delegate* unmanaged<byte*, int*, int>)NativeLibrary.GetExport(library, Prefix + "Get_library_version");
        var text = stackalloc byte[MpiAbi.TextBytes];
        int length;
        if (getVersion(text, &length) != 0)
            throw new MpiException("MPI_Get_library_version failed");
        return Encoding.UTF8.GetString(text, Math.Clamp(length, 0, MpiAbi.TextBytes)).Split('\n')[0].TrimEnd('\0', ' ');
    }

    private IntPtr WithErrorsReturned(IntPtr communicator)
    {
        Check(_commSetErrorHandler(communicator, _abi.ErrorsReturn), "Comm_set_errhandler");
        return communicator;
    }

    private void Check(int code, string function)
    {
        if (code == 0)
            return;
        var text = stackalloc byte[MpiAbi.TextBytes];
        int length;
        var said = _errorString(code, text, &length) == 0 ? Encoding.UTF8.GetString(text, Math.Clamp(length, 0, MpiAbi.TextBytes)).TrimEnd('\0') : "no text";
        throw new MpiException($"{Prefix}{function} of {Version} returned error {code}: {said}");
    }
}
