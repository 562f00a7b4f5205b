using System.Net;
using System.Net.NetworkInformation;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using FabricSharp.Collectives.Stores;
using FabricSharp.Interop.Posix;

namespace FabricSharp.Collectives.Control;

/// <summary>How the ranks of a group find their hub: through the store, where each tells where it runs.</summary>
internal sealed class ControlMeeting(Store store, int rank, int size, IReadOnlyList<int> globalRanks, TimeSpan limit)
{
    private const int SecretBytes = 16;

    /// <summary>The limit of one attempt to reach one of the hub's addresses: those of other networks do not answer at all.</summary>
    private static readonly TimeSpan AttemptLimit = TimeSpan.FromSeconds(3);

    private readonly Deadline _deadline = Deadline.After(limit);

    private string Me => $"R{RankName.Of(rank, globalRanks)[1..]}";

    /// <summary>What tells one machine from another.</summary>
    public static string Machine { get; } = $"{Environment.MachineName} {BootId.Text}";

    /// <summary>
    /// Takes the rank's place, tells the others <paramref name="mine"/>, and returns what every rank has told, in order. Collective.
    /// </summary>
    /// <exception cref="DistributedException">The place is taken.</exception>
    /// <exception cref="DistributedTimeoutException">Some rank did not come in time.</exception>
    public IReadOnlyList<string> Introduce(string mine)
    {
        if (store.Add($"place/{rank}", 1) > 1)
            throw new DistributedException($"{Me} is taken: two processes were given the same rank, or an earlier group with the same store keys was not given a prefix of its own.");
        store.Set($"who/{rank}", Encoding.UTF8.GetBytes(mine));
        return [.. Enumerable.Range(0, size).Select(other => Encoding.UTF8.GetString(Get($"who/{other}", other)))];
    }

    /// <summary>Connects to the hub, which rank 0 opens. Collective.</summary>
    /// <param name="isOneMachine">Whether all ranks run on one machine: then nobody else can connect.</param>
    public ControlLine Connect(bool isOneMachine)
    {
        if (size == 1)
            return new ControlLine(null, rank, globalRanks);
        if (rank == 0)
            Open(isOneMachine);
        var place = JsonSerializer.Deserialize<HubPlace>(Get("hub", 0))!;
        var socket = new ControlSocket(Reach(place));
        try
        {
            socket.Send(ControlFrame.Hello, writer =>
            {
                writer.Write(place.Secret);
                writer.Write(rank);
            });
        }
        catch (SocketException e)
        {
            socket.Dispose();
            throw Unreachable(place, e);
        }

        return new ControlLine(socket, rank, globalRanks);
    }

    private void Open(bool isOneMachine)
    {
        var secret = RandomNumberGenerator.GetBytes(SecretBytes);
        var hub = new ControlHub(size, secret, isOneMachine ? IPAddress.Loopback : IPAddress.Any); // ends with the last connection
        var addresses = isOneMachine ? [] : OwnAddresses();
        store.Set("hub", JsonSerializer.SerializeToUtf8Bytes(new HubPlace(Machine, hub.Port, addresses, secret)));
    }

    private static string[] OwnAddresses() =>
    [
        .. NetworkInterface.GetAllNetworkInterfaces()
            .Where(network => network.OperationalStatus == OperationalStatus.Up && network.NetworkInterfaceType != NetworkInterfaceType.Loopback)
            .SelectMany(network => network.GetIPProperties().UnicastAddresses)
            .Select(unicast => unicast.Address)
            .Where(address => address.AddressFamily == AddressFamily.InterNetwork)
            .Select(address => address.ToString()),
    ];

    private Socket Reach(HubPlace place)
    {
        var candidates = place.Machine == Machine ? ["127.0.0.1"] : place.Addresses;
        Exception? last = null;
        do
        {
            foreach (var address in candidates)
            {
                var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
                try
                {
                    var attempt = socket.BeginConnect(IPAddress.Parse(address), place.Port, null, null);
                    if (attempt.AsyncWaitHandle.WaitOne(_deadline.Remaining < AttemptLimit ? _deadline.Remaining : AttemptLimit))
                    {
                        socket.EndConnect(attempt);
                        return socket;
                    }

                    last = new TimeoutException($"{address} does not answer.");
                }
                catch (SocketException e)
                {
                    last = e;
                }

                socket.Dispose();
            }
        }
        while (!_deadline.HasPassed && candidates.Length > 0);
        throw Unreachable(place, last);
    }

    private DistributedException Unreachable(HubPlace place, Exception? cause) => new(
        $"{Me} cannot reach rank 0's control connection at port {place.Port} of {place.Machine.Split(' ')[0]} ({string.Join(", ", place.Addresses)}): {cause?.Message ?? "it has no address"}. " +
        "The machines must be able to connect to each other: look at firewalls and networks.", cause);

    private byte[] Get(string key, int whose)
    {
        try
        {
            return store.Get(key, _deadline.Remaining);
        }
        catch (DistributedTimeoutException e)
        {
            throw new DistributedTimeoutException(
                $"{Me}: {RankName.Of(whose, globalRanks)} did not join the group of {size} ranks within {limit.TotalSeconds:0.###} s. Was it started, and with the same number of ranks and the same store?", e);
        }
    }

    private sealed record HubPlace(string Machine, int Port, string[] Addresses, byte[] Secret);
}
