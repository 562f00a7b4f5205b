using System.Globalization;

namespace FabricSharp.Environments;

/// <summary>
/// Lightning's variables: LOCAL_RANK (its presence means that processes come from outside), MASTER_ADDR (127.0.0.1), MASTER_PORT (any free
/// one), NODE_RANK, else GROUP_RANK (0), WORLD_SIZE.
/// </summary>
internal sealed class LocalEnvironment : ClusterEnvironment
{
    private LocalEnvironment(int? localRank, string mainAddress, int mainPort, int nodeRank, int? worldSize)
    {
        CreatesProcessesExternally = localRank is not null;
        LocalRank = localRank ?? 0;
        MainAddress = mainAddress;
        MainPort = mainPort;
        NodeRank = nodeRank;
        WorldSize = worldSize;
    }

    public override string Name => "local";

    public override bool CreatesProcessesExternally { get; }

    public override string MainAddress { get; }

    public override int MainPort { get; }

    public override int LocalRank { get; }

    public override int NodeRank { get; }

    public override int? WorldSize { get; }

    /// <param name="variable">Reads an environment variable.</param>
    public static LocalEnvironment Read(Func<string, string?> variable) => new(
        Number(variable, "LOCAL_RANK", 0, 100_000),
        variable("MASTER_ADDR") is { Length: > 0 } address ? address : "127.0.0.1",
        Number(variable, "MASTER_PORT", 0, 65535) ?? 0,
        Number(variable, "NODE_RANK", 0, 100_000) ?? Number(variable, "GROUP_RANK", 0, 100_000) ?? 0,
        Number(variable, "WORLD_SIZE", 1, 1_000_000));

    private static int? Number(Func<string, string?> variable, string name, int smallest, int largest)
    {
        var text = variable(name);
        if (string.IsNullOrEmpty(text))
            return null;
        if (int.TryParse(text, NumberStyles.Integer, CultureInfo.InvariantCulture, out var number) && number >= smallest && number <= largest)
            return number;
        throw new ArgumentException($"The environment variable {name}={text} must be a whole number from {smallest} to {largest}. Unset it to start the ranks from this program.");
    }
}
