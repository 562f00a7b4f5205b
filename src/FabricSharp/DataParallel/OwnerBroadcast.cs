using FabricSharp.Collectives;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>
/// Gives each owner's parameters to all ranks: large ones straight from and into their memory, small ones of one owner and data type packed into one
/// tensor, since an operation costs about as much as copying some hundred KiB.
/// </summary>
internal sealed class OwnerBroadcast
{
    private const long LargeBytes = 256 * 1024;

    private readonly ProcessGroup _group;
    private readonly List<Part> _parts = [];

    /// <param name="group">The ranks.</param>
    /// <param name="parameters">The same in the same order on every rank.</param>
    public OwnerBroadcast(ProcessGroup group, IEnumerable<(Parameter Parameter, int Owner)> parameters)
    {
        _group = group;
        foreach (var owned in parameters.GroupBy(one => (one.Owner, one.Parameter.dtype, one.Parameter.device_type, one.Parameter.device_index)))
        {
            var isLarge = owned.Select(one => one.Parameter).ToLookup(parameter => parameter.numel() * parameter.ElementSize >= LargeBytes);
            _parts.AddRange(isLarge[true].Select(parameter => new Part(owned.Key.Owner, [parameter])));
            if (isLarge[false].Any())
                _parts.Add(new Part(owned.Key.Owner, [.. isLarge[false]]));
        }
    }

    /// <summary>How many operations <see cref="Run"/> takes.</summary>
    public int Operations => _parts.Count;

    /// <summary>Collective.</summary>
    public void Run()
    {
        using var gradientsOff = no_grad();
        using var scope = NewDisposeScope();
        var started = _parts.Select(part =>
        {
            var sent = part.Packed(isOwner: part.Owner == _group.Rank);
            return (part, sent, work: _group.Broadcast(sent, part.Owner));
        }).ToList();
        foreach (var (part, sent, work) in started)
        {
            work.Wait();
            if (part.Owner != _group.Rank)
                part.Unpack(sent);
        }
    }

    private sealed record Part(int Owner, IReadOnlyList<Parameter> Parameters)
    {
        public Tensor Packed(bool isOwner)
        {
            if (Parameters.Count == 1)
                return Parameters[0];
            return isOwner
                ? cat([.. Parameters.Select(parameter => parameter.reshape(-1))])
                : empty(Parameters.Sum(parameter => parameter.numel()), Parameters[0].dtype, Parameters[0].device);
        }

        public void Unpack(Tensor packed)
        {
            if (Parameters.Count == 1)
                return;
            var offset = 0L;
            foreach (var parameter in Parameters)
            {
                parameter.copy_(packed.narrow(0, offset, parameter.numel()).view(parameter.shape));
                offset += parameter.numel();
            }
        }
    }
}
