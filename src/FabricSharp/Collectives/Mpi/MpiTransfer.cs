using FabricSharp.Interop.Mpi;

namespace FabricSharp.Collectives.Mpi;

/// <summary>Sends and receives that were started together.</summary>
internal sealed class MpiTransfer
{
    private readonly List<IntPtr> _requests = [];
    private int _over;

    public void Add(IntPtr request) => _requests.Add(request);

    /// <summary>Whether all are over; lets MPI move them.</summary>
    public bool IsOver(MpiApi api)
    {
        while (_over < _requests.Count && api.Test(_requests[_over]))
            _over++;
        return _over == _requests.Count;
    }
}
