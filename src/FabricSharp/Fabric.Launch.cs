using System.Globalization;
using FabricSharp.Collectives;
using FabricSharp.Launching;
using FabricSharp.Strategies;
using static TorchSharp.torch;

namespace FabricSharp;

/// <summary>Bringing the ranks into being.</summary>
public sealed partial class Fabric
{
    /// <summary>Whether a function was run on ranks that ended after it: there are none for a further launch.</summary>
    private static volatile bool _othersHaveEnded;

    private bool _launched;

    /// <summary>
    /// Starts this program again for each further rank of this machine (unless something else started it already), and joins the ranks.
    /// With a single device there is nothing to do. Collective.
    /// </summary>
    /// <exception cref="InvalidOperationException">Launched already, or the strategy's start method needs <see cref="Launch(Action{Fabric})"/>.</exception>
    /// <exception cref="DistributedTimeoutException">Some rank did not come in time.</exception>
    public void Launch()
    {
        if (Strategy.IsDistributed && Strategy.Starts != StartMethod.Popen)
            throw new InvalidOperationException(
                $"To start ranks with the strategy '{Strategy.Name}' and {Strategy.Starts}, `.Launch()` needs to be called with a function: write `fabric.Launch(f => {{ … }})`.");
        Start();
    }

    /// <summary>Launches, then runs <paramref name="function"/> on every rank. Collective.</summary>
    /// <param name="function">Gets the rank's Fabric.</param>
    public void Launch(Action<Fabric> function)
    {
        ArgumentNullException.ThrowIfNull(function);
        Launch(fabric =>
        {
            function(fabric);
            return true;
        });
    }

    /// <summary>Launches, runs <paramref name="function"/> on every rank, and returns rank 0's result on this process. Collective.</summary>
    /// <param name="function">Gets the rank's Fabric.</param>
    public T Launch<T>(Func<Fabric, T> function)
    {
        ArgumentNullException.ThrowIfNull(function);
        if (Strategy.IsDistributed && Strategy.Starts == StartMethod.Notebook && !_plan.Environment.CreatesProcessesExternally)
        {
            RequireFirstLaunch();
            return ThreadLauncher.Run(_plan, function);
        }

        Start();
        var result = function(this);
        if (Strategy.IsDistributed && Strategy.Starts == StartMethod.Spawn)
        {
            if (LocalRank > 0)
                Environment.Exit(0); // what follows in the program is rank 0's
            _othersHaveEnded = true;
        }

        return result;
    }

    /// <summary>Joins the ranks through a store that is there already. Collective.</summary>
    internal void Join(Store store)
    {
        RequireFirstLaunch();
        Connect(new PrefixStore("default_pg/0", store));
    }

    private void Connect(Store store)
    {
        Strategy.Connect(store, GlobalRank, WorldSize);
        if (Precision.Scaler is { } scaler)
            scaler.Group ??= Strategy.Group;
    }

    private void RequireFirstLaunch()
    {
        RequireAlive(nameof(Launch));
        if (_launched)
            throw new InvalidOperationException($"The launcher can only create subprocesses once: rank {GlobalRank} has called `.Launch()` before. Write `fabric.Launch();` once, right after `new Fabric(…)`.");
        _launched = true;
    }

    private void Start()
    {
        RequireFirstLaunch();
        if (!Strategy.IsDistributed)
            return;
        if (_othersHaveEnded)
            throw new InvalidOperationException($"Rank {GlobalRank}: a Fabric with the strategy 'ddp_spawn' was launched before, and its other ranks ended with its function. Write one `fabric.Launch(f => {{ … }})` with everything in it, or use the strategy \"ddp\", with which a program can launch several Fabrics.");
        var meeting = Strategy.MeetsThroughStore ? Meet() : new Rendezvous.Meeting(0, new HashStore());
        if (!_plan.Environment.CreatesProcessesExternally)
            StartOtherRanks(meeting.Port);
        Connect(meeting.Store);
        SubprocessLauncher.OfThisProcess?.WaitAtExit();
        if (IsGlobalZero)
            Console.Error.WriteLine($"FabricSharp: distributed_backend={Strategy.Group!.Backend}. All distributed processes registered. Starting with {WorldSize} processes.");
    }

    private Rendezvous.Meeting Meet()
    {
        var environment = _plan.Environment;
        if (!environment.CreatesProcessesExternally && GlobalRank == 0)
            return Rendezvous.Enter("127.0.0.1", environment.MainPort, isServer: true, WorldSize, environment.StorePrefix);
        if (environment.MainPort == 0)
            throw new InvalidOperationException($"Rank {GlobalRank}: the environment '{environment.Name}' says that something else starts the ranks (LOCAL_RANK is set), but MASTER_PORT is not set: they need the address of rank 0. Set MASTER_ADDR and MASTER_PORT, or unset LOCAL_RANK.");
        return Rendezvous.Enter(environment.MainAddress, environment.MainPort, isServer: GlobalRank == 0 && !environment.IsStoreServedExternally, WorldSize, environment.StorePrefix);
    }

    private void StartOtherRanks(int port)
    {
        var variables = new Dictionary<string, string>
        {
            ["MASTER_ADDR"] = "127.0.0.1",
            ["MASTER_PORT"] = Text(port),
            ["NODE_RANK"] = Text(NodeRank),
            ["WORLD_SIZE"] = Text(WorldSize),
        };
        foreach (var (name, value) in variables)
            Environment.SetEnvironmentVariable(name, value);
        Environment.SetEnvironmentVariable("LOCAL_RANK", Text(LocalRank));
        ShareCores(variables);
        SubprocessLauncher.Start(_plan.LocalWorldSize, NodeRank * _plan.LocalWorldSize, variables);
    }

    /// <summary>Each rank computes with its share of the cores, unless the user said how many threads.</summary>
    private void ShareCores(Dictionary<string, string> variables)
    {
        if (Environment.GetEnvironmentVariable("OMP_NUM_THREADS") is not null)
            return;
        var threads = Math.Max(1, Environment.ProcessorCount / _plan.LocalWorldSize);
        variables["OMP_NUM_THREADS"] = Text(threads);
        Environment.SetEnvironmentVariable("OMP_NUM_THREADS", Text(threads));
        set_num_threads(threads);
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
}
