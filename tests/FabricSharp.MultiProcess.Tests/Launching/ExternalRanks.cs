using System.Net;
using System.Net.Sockets;

namespace FabricSharp.MultiProcess.Tests.Launching;

/// <summary>The variables of ranks that something else starts.</summary>
internal static class ExternalRanks
{
    public static (string Name, string? Value)[] Local(int rank, int ranks, int port) =>
        [("LOCAL_RANK", $"{rank}"), ("WORLD_SIZE", $"{ranks}"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", $"{port}"), ("NODE_RANK", "0"), ("OMP_NUM_THREADS", "1")];

    public static (string Name, string? Value)[] Torchrun(int rank, int ranks, int port, int attempt = 0) =>
    [
        ("RANK", $"{rank}"), ("LOCAL_RANK", $"{rank}"), ("GROUP_RANK", "0"), ("ROLE_RANK", $"{rank}"), ("ROLE_NAME", "default"), ("LOCAL_WORLD_SIZE", $"{ranks}"), ("WORLD_SIZE", $"{ranks}"),
        ("GROUP_WORLD_SIZE", "1"), ("ROLE_WORLD_SIZE", $"{ranks}"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", $"{port}"), ("TORCHELASTIC_RESTART_COUNT", $"{attempt}"),
        ("TORCHELASTIC_MAX_RESTARTS", "1"), ("TORCHELASTIC_RUN_ID", "none"), ("TORCHELASTIC_USE_AGENT_STORE", "True"), ("OMP_NUM_THREADS", "1"),
    ];

    public static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}
