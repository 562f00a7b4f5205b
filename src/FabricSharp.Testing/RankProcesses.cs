using System.Diagnostics;
using System.Globalization;
using FabricSharp.Collectives;

namespace FabricSharp.Testing;

/// <summary>
/// Starts a program once for each rank, as torchrun does: the ranks meet at a store of the test, so no port must be chosen, and Fabric's own launcher
/// starts nothing. No process outlives the call.
/// </summary>
public static class RankProcesses
{
    /// <summary>How long the ranks may take unless told otherwise: a minute.</summary>
    public static readonly TimeSpan DefaultLimit = TimeSpan.FromMinutes(1);

    /// <summary>How long the others may go on when a rank has ended with another code than 0.</summary>
    private static readonly TimeSpan LimitAfterAFailure = TimeSpan.FromSeconds(10);

    /// <summary>Runs the program on every rank, to its end.</summary>
    /// <param name="program">An executable, or a <c>.dll</c> that <c>dotnet</c> is to run. Its Fabric has <c>devices: "auto"</c> or the same number of ranks.</param>
    /// <param name="arguments">Its arguments, the same on each rank.</param>
    /// <param name="ranks">The number of ranks, from 1.</param>
    /// <param name="limit">How long all may take. <value>Default <see cref="DefaultLimit"/>.</value></param>
    /// <param name="environment">Variables besides this process's own and those of the ranks; null removes one. <value>Default none.</value></param>
    /// <returns>What each rank left behind, in their order. When one ends with another code than 0, the others have 10 s more.</returns>
    /// <exception cref="TimeoutException">The limit passed; the message has all output. Every process was ended.</exception>
    /// <exception cref="System.ComponentModel.Win32Exception">The program cannot be started.</exception>
    public static async Task<IReadOnlyList<RankProcess>> RunAsync(
        string program, IEnumerable<string> arguments, int ranks, TimeSpan? limit = null, IReadOnlyDictionary<string, string?>? environment = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(program);
        ArgumentNullException.ThrowIfNull(arguments);
        ArgumentOutOfRangeException.ThrowIfLessThan(ranks, 1);
        string[] words = [.. arguments];
        using var store = new TCPStore("127.0.0.1", 0, isServer: true);
        var processes = new List<StartedRank>();
        try
        {
            for (var rank = 0; rank < ranks; rank++)
                processes.Add(new StartedRank(rank, StartInfo(program, words, rank, ranks, store.Port, environment)));
            await WaitForAllAsync(processes, limit ?? DefaultLimit);
        }
        finally
        {
            processes.ForEach(process => process.End());
        }

        return await Task.WhenAll(processes.Select(process => process.ResultAsync()));
    }

    private static async Task WaitForAllAsync(List<StartedRank> processes, TimeSpan limit)
    {
        using var overall = new CancellationTokenSource(limit);
        using var afterFailure = CancellationTokenSource.CreateLinkedTokenSource(overall.Token);
        try
        {
            await Task.WhenAll(processes.Select(async process =>
            {
                if (await process.ExitAsync(afterFailure.Token) != 0)
                    afterFailure.CancelAfter(LimitAfterAFailure);
            }));
        }
        catch (OperationCanceledException) when (!overall.IsCancellationRequested)
        {
            // a rank had failed, and the others did not notice: they are ended
        }
        catch (OperationCanceledException)
        {
            var late = string.Join(", ", processes.Where(process => !process.HasEnded).Select(process => process.Rank));
            processes.ForEach(process => process.End());
            var results = await Task.WhenAll(processes.Select(process => process.ResultAsync()));
            throw new TimeoutException($"Of {processes.Count} ranks these did not end within {limit.TotalSeconds:0.#} s: {late}. Everything they printed:\n{string.Join('\n', results.Select(result => result.ToString()))}");
        }
    }

    private static ProcessStartInfo StartInfo(string program, string[] arguments, int rank, int ranks, int port, IReadOnlyDictionary<string, string?>? environment)
    {
        var isLibrary = program.EndsWith(".dll", StringComparison.OrdinalIgnoreCase);
        var info = new ProcessStartInfo(isLibrary ? Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet" : program) { UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (var argument in isLibrary ? [program, .. arguments] : arguments)
            info.ArgumentList.Add(argument);
        foreach (var (name, value) in Variables(rank, ranks, port).Concat(environment ?? new Dictionary<string, string?>()))
            info.Environment[name] = value;
        return info;
    }

    private static Dictionary<string, string?> Variables(int rank, int ranks, int port) => new()
    {
        ["RANK"] = Text(rank),
        ["LOCAL_RANK"] = Text(rank),
        ["WORLD_SIZE"] = Text(ranks),
        ["LOCAL_WORLD_SIZE"] = Text(ranks),
        ["GROUP_RANK"] = "0",
        ["MASTER_ADDR"] = "127.0.0.1",
        ["MASTER_PORT"] = Text(port),
        ["TORCHELASTIC_RUN_ID"] = "FabricSharp.Testing",
        ["TORCHELASTIC_USE_AGENT_STORE"] = "True",
        ["OMP_NUM_THREADS"] = Text(Math.Max(1, Environment.ProcessorCount / ranks)),
        ["FABRIC_LAUNCHER_PID"] = null, // of a launcher that this process may itself have
    };

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
}
