using FabricSharp.Collectives;

namespace FabricSharp.Launching;

/// <summary>
/// Where the ranks of this program's Fabrics meet: one store for each address, kept until the process ends, in which every launch has keys of its own. So the ranks may
/// come to the second launch in any order, and none reads what the first one left, be the store rank 0's or a launcher's.
/// </summary>
internal static class Rendezvous
{
    private static readonly Lock Gate = new();
    private static readonly Dictionary<(string Host, int Port), Place> Places = [];

    /// <summary>Comes to the next launch at an address. All ranks count their launches alike, because launching is collective.</summary>
    /// <param name="host">The store's machine.</param>
    /// <param name="port">Its port; 0 for the serving process alone: any free one.</param>
    /// <param name="isServer">Whether this process serves the store, unless it does already.</param>
    /// <param name="worldSize">The number of ranks.</param>
    /// <param name="prefix">Before the keys of all launches; empty for none.</param>
    public static Meeting Enter(string host, int port, bool isServer, int worldSize, string prefix)
    {
        lock (Gate)
        {
            if (!Places.TryGetValue((host, port), out var place))
            {
                place = new Place(new TCPStore(host, port, isServer, worldSize));
                Places.Add((host, place.Store.Port), place);
            }

            var keys = $"default_pg/{place.Launches++}";
            return new Meeting(place.Store.Port, new PrefixStore(prefix.Length == 0 ? keys : $"{prefix}/{keys}", place.Store));
        }
    }

    /// <summary>A place to meet for one launch.</summary>
    /// <param name="Port">The store's port.</param>
    /// <param name="Store">The keys of this launch.</param>
    internal readonly record struct Meeting(int Port, Store Store);

    private sealed class Place(TCPStore store)
    {
        public TCPStore Store { get; } = store;

        public int Launches { get; set; }
    }
}
