using System.Diagnostics;
using FabricSharp.Interop.Mpi;
using FabricSharp.Interop.Posix;

namespace FabricSharp.Collectives.Mpi;

/// <summary>
/// MPI in this process: initialised once, finalised at exit, and all calls of it under one lock. Whoever waits makes everything advance; a
/// thread of its own does so while nobody waits, so that transfers go on beside computations.
/// </summary>
internal sealed unsafe class MpiRuntime
{
    /// <summary>How long the exit of a program that ends well waits for the other ranks to end, in seconds; the launcher's variable.</summary>
    private const string ExitTimeoutVariable = "FABRIC_EXIT_TIMEOUT";

    private static readonly TimeSpan TimeToDeliver = TimeSpan.FromMilliseconds(20), TimeToClose = TimeSpan.FromMilliseconds(200);
    private static readonly TimeSpan BackgroundPause = TimeSpan.FromMicroseconds(100), IdlePause = TimeSpan.FromMilliseconds(1), BusyMemory = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan TimeForTheBroken = TimeSpan.FromSeconds(2);

    private static readonly Lock StartGate = new();
    private static MpiRuntime? _instance;

    private readonly List<MpiChannel> _channels = [];
    private readonly ManualResetEventSlim _begun = new(), _work = new(), _finalized = new();
    private readonly Thread _thread;

    private Exception? _failure;
    private bool _isOurs;
    private volatile bool _ending, _sleeps;
    private volatile int _pending, _waiters;

    private MpiRuntime(MpiApi api)
    {
        Api = api;
        _thread = new Thread(Run) { IsBackground = true, Name = "FabricSharp MPI" };
        _thread.Start();
    }

    /// <summary>To be called under <see cref="Gate"/>.</summary>
    public MpiApi Api { get; }

    public Lock Gate { get; } = new();

    public int WorldRank { get; private set; }

    public int WorldSize { get; private set; }

    /// <summary>Initialises MPI, the first time.</summary>
    /// <exception cref="DistributedException">There is no MPI, or nothing that could tell this process who it is.</exception>
    public static MpiRuntime Start(int rank, int size, TimeSpan timeout)
    {
        lock (StartGate)
        {
            if (_instance is null)
            {
                if (!MpiLibrary.IsSupported)
                    throw new DistributedException($"Rank {rank}: the mpi back end cannot be used: {MpiLibrary.NotSupportedReason}.");
                if (MpiLibrary.LauncherVariable(Environment.GetEnvironmentVariable) is null)
                    throw new DistributedException(
                        $"Rank {rank}: the mpi back end needs ranks that MPI started, and no variable of an MPI launcher (OMPI_COMM_WORLD_SIZE, PMI_RANK, PMIX_RANK) is set: " +
                        $"start the program with `mpirun -n {size} dotnet App.dll`, or use the back end shm on one machine.");
                _instance = new MpiRuntime(MpiLibrary.Api);
            }

            return _instance.Begun(rank, size, timeout);
        }
    }

    public void Register(MpiChannel channel)
    {
        lock (Gate)
            _channels.Add(channel);
    }

    /// <summary>Something was begun that has to end; <see cref="Ended"/> is to follow.</summary>
    public void Begins()
    {
        Interlocked.Increment(ref _pending);
        if (_sleeps)
            _work.Set();
    }

    public void Ended() => Interlocked.Decrement(ref _pending);

    /// <summary>Does what can be done now, unless another thread is about it. Local: does not wait.</summary>
    /// <returns>Whether something moved.</returns>
    public bool Advance()
    {
        if (!Gate.TryEnter())
            return false;
        try
        {
            return AdvanceAll();
        }
        finally
        {
            Gate.Exit();
        }
    }

    /// <summary>Waits until <paramref name="condition"/> holds, advancing everything.</summary>
    /// <returns>False when the limit passed before.</returns>
    public bool WaitFor(Func<bool> condition, TimeSpan limit)
    {
        if (condition())
            return true;
        Interlocked.Increment(ref _waiters);
        try
        {
            var pause = new MpiPause(limit);
            while (true)
            {
                var moved = Advance();
                if (condition())
                    return true;
                if (moved)
                    pause.Moved();
                else if (!pause.Once())
                    return condition();
            }
        }
        finally
        {
            Interlocked.Decrement(ref _waiters);
        }
    }

    /// <summary>Gives what was just sent the time to leave this process, which is about to end, perhaps.</summary>
    public void Deliver(Func<bool> condition) => WaitFor(condition, TimeToDeliver);

    private bool AdvanceAll()
    {
        var moved = false;
        for (var i = _channels.Count - 1; i >= 0; i--)
        {
            moved |= _channels[i].Advance();
            if (!_channels[i].IsClosed)
                continue;
            _channels.RemoveAt(i);
            moved = true;
        }

        return moved;
    }

    private MpiRuntime Begun(int rank, int size, TimeSpan timeout)
    {
        if (!_begun.Wait(timeout))
            throw new DistributedTimeoutException(
                $"Rank {rank}: MPI_Init_thread of {Api.Version} did not return within {timeout.TotalSeconds:0.###} s. It waits for all ranks of the job: did one end or hang before it made its process group?");
        if (_failure is not null)
            throw new DistributedException($"Rank {rank}: MPI could not be initialised: {_failure.Message}.", _failure);
        if (size != WorldSize || rank != WorldRank)
            throw new ArgumentException(
                $"A process group of the mpi back end has the ranks of MPI: this process is rank {WorldRank} of {WorldSize} for {Api.Version} ({Api.Name}), but rank {rank} of {size} was asked for. " +
                (WorldSize == 1
                    ? $"A world of one rank means that the library does not belong to the mpirun that started the job: name that one's library in {MpiLibrary.Variable}."
                    : "Start as many processes as ranks are wanted, or use NewGroup for some of them."), nameof(size));
        return this;
    }

    /// <summary>The thread that initialises and finalises MPI, as it must be one, and meanwhile helps.</summary>
    private void Run()
    {
        try
        {
            lock (Gate)
            {
                _isOurs = Api.Initialize();
                (WorldRank, WorldSize) = (Api.RankIn(Api.World), Api.SizeOf(Api.World));
            }

            AppDomain.CurrentDomain.ProcessExit += (_, _) => AtExit();
            AppDomain.CurrentDomain.UnhandledException += (_, e) => AtCrash(e.ExceptionObject);
        }
        catch (MpiException e)
        {
            _failure = e;
            return;
        }
        finally
        {
            _begun.Set();
        }

        Help();
        lock (Gate)
        {
            _channels.ForEach(channel => channel.Close());
            Api.FinalizeMpi();
        }

        _finalized.Set();
    }

    private void Help()
    {
        var lastBusy = Stopwatch.GetTimestamp();
        while (!_ending)
        {
            if (_pending > 0)
            {
                lastBusy = Stopwatch.GetTimestamp();
                if (_waiters == 0 && Advance())
                    continue;
                MpiPause.Sleep(_waiters == 0 ? BackgroundPause : IdlePause);
            }
            else if (Stopwatch.GetElapsedTime(lastBusy) < BusyMemory)
            {
                MpiPause.Sleep(IdlePause);
            }
            else
            {
                _work.Reset();
                _sleeps = true;
                Interlocked.MemoryBarrier(); // Begins counts first and looks then, we the other way round: one sees the other
                if (_pending == 0 && !_ending)
                    _work.Wait();
                _sleeps = false;
            }
        }
    }

    /// <summary>
    /// MPI_Finalize waits for all ranks, so it is called only by a rank that ends well, and not for ever. A rank that ends badly leaves it out:
    /// that is how mpirun learns that the others are to be ended.
    /// </summary>
    private void AtExit()
    {
        MpiChannel[] channels;
        lock (Gate)
            channels = [.. _channels];
        var broken = Environment.ExitCode != 0 || channels.Any(channel => channel.HasLost);
        foreach (var channel in channels)
            channel.Leave();
        Deliver(() => channels.All(channel => channel.HasSentAll));
        if (!_isOurs || Environment.ExitCode != 0 || Api.IsFinalized)
            return;
        if (!broken)
            WaitFor(() => channels.All(channel => channel.IsClosed), TimeToClose); // the others' last words, if they end now, too: MPI is better ended with nothing left unread
        _ending = true;
        _work.Set();
        if (_finalized.Wait(broken ? TimeForTheBroken : ExitTimeout()))
            return;
        Console.Error.WriteLine(
            $"FabricSharp: rank {WorldRank} has ended, but MPI_Finalize did not return{(broken ? " after a failure" : $" within {ExitTimeout().TotalSeconds:0} s: other ranks still run ({ExitTimeoutVariable} is the limit)")}; ended without it.");
        Console.Error.Flush();
        if (PosixApi.IsSupported)
            PosixApi.ExitNow(broken ? 0 : 1);
    }

    private void AtCrash(object exception)
    {
        var reason = exception is Exception e ? $"unhandled {e.GetType().Name}: {e.Message}" : $"unhandled {exception}";
        MpiChannel[] channels;
        lock (Gate)
            channels = [.. _channels];
        foreach (var channel in channels)
            channel.Abort(reason);
        Deliver(() => channels.All(channel => channel.HasSentAll));
    }

    private static TimeSpan ExitTimeout() =>
        double.TryParse(Environment.GetEnvironmentVariable(ExitTimeoutVariable), System.Globalization.CultureInfo.InvariantCulture, out var seconds) && seconds >= 0
            ? TimeSpan.FromSeconds(seconds)
            : ProcessGroup.DefaultTimeout;
}
