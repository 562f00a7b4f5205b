using System.Diagnostics;
using System.Globalization;
using FabricSharp.Diagnostics;
using FabricSharp.Interop.Posix;

namespace FabricSharp.Launching;

/// <summary>
/// Starts this program again for the other local ranks and keeps watch over them: when one ends badly its error is shown and all end;
/// none outlives this process; none is left behind when it ends.
/// <code>
/// this process              local rank 0, sets MASTER_ADDR, MASTER_PORT, NODE_RANK, LOCAL_RANK=0, WORLD_SIZE for itself
/// same executable and args  local ranks 1 … n-1, the same variables with their LOCAL_RANK, and FABRIC_LAUNCHER_PID
/// </code>
/// </summary>
internal sealed class SubprocessLauncher
{
    /// <summary>How long a process that is about to end by itself is given.</summary>
    private static readonly TimeSpan ShortWait = PeerFailure.TimeToShowTheCause;

    /// <summary>How long ranks may go on after rank 0's program has ended well, in seconds.</summary>
    private const string ExitTimeoutVariable = "FABRIC_EXIT_TIMEOUT";
    private const double DefaultExitTimeout = 60;

    private readonly Lock _gate = new();
    private readonly List<ChildRank> _children = [];

    /// <summary>Whether the children's ends are expected from now on; guarded by <see cref="_gate"/>.</summary>
    private bool _ending;

    /// <summary>The one that started the other ranks of this machine; null where something else did.</summary>
    public static SubprocessLauncher? OfThisProcess { get; private set; }

    /// <summary>Starts local ranks 1 … <paramref name="localWorldSize"/> − 1. Once in a process.</summary>
    /// <param name="localWorldSize">Ranks on this machine.</param>
    /// <param name="firstGlobalRank">Global rank of local rank 0.</param>
    /// <param name="environment">Variables for every child; LOCAL_RANK is added.</param>
    public static void Start(int localWorldSize, int firstGlobalRank, IReadOnlyDictionary<string, string> environment)
    {
        var launcher = OfThisProcess = new SubprocessLauncher();
        var program = ProgramInvocation.Current();
        AppDomain.CurrentDomain.UnhandledException += (_, e) => launcher.OnUnhandledException(e.ExceptionObject);
        lock (launcher._gate)
        {
            for (var localRank = 1; localRank < localWorldSize; localRank++)
                launcher._children.Add(launcher.StartChild(program, localRank, firstGlobalRank + localRank, environment));
        }
    }

    /// <summary>
    /// From now on the end of this process waits for the other ranks' end. To be called whenever a process group has been made: its own
    /// exit handler, registered earlier, then tells the others first.
    /// </summary>
    public void WaitAtExit()
    {
        AppDomain.CurrentDomain.ProcessExit -= OnProcessExit;
        AppDomain.CurrentDomain.ProcessExit += OnProcessExit;
    }

    private ChildRank StartChild(ProgramInvocation program, int localRank, int globalRank, IReadOnlyDictionary<string, string> environment)
    {
        var info = program.ToStartInfo();
        info.RedirectStandardOutput = true;
        info.RedirectStandardError = true;
        foreach (var (name, value) in environment)
            info.Environment[name] = value;
        info.Environment["LOCAL_RANK"] = localRank.ToString(CultureInfo.InvariantCulture);
        info.Environment[ParentWatch.Variable] = Environment.ProcessId.ToString(CultureInfo.InvariantCulture);
        var process = new Process { StartInfo = info, EnableRaisingEvents = true };
        var child = new ChildRank(globalRank, process);
        process.Exited += (_, _) => OnChildExited(child);
        process.Start();
        child.Output = new RankOutput(globalRank, process.StandardOutput, process.StandardError);
        return child;
    }

    private void OnChildExited(ChildRank child)
    {
        if (child.Process.ExitCode == 0)
            return;
        lock (_gate)
        {
            if (_ending)
                return;
            _ending = true;
        }

        EndAllBecauseOf(child);
    }

    /// <summary>Shows the failed rank's last words, ends every other rank, and this process.</summary>
    private void EndAllBecauseOf(ChildRank failed)
    {
        failed.Output?.Drain(ShortWait / 2);
        Console.Out.Flush();
        Console.Error.WriteLine($"FabricSharp: rank {failed.Rank} (process {failed.Process.Id}) ended with exit code {failed.Process.ExitCode}; all other ranks are ended.");
        KillAll();
        Console.Error.Flush();
        ExitNow(failed.Process.ExitCode);
    }

    /// <summary>
    /// This rank is about to crash. When the cause is another rank's failure, that rank's error is the one to show: it is given the time
    /// to end, which ends us too (<see cref="OnChildExited"/>).
    /// </summary>
    private void OnUnhandledException(object exception)
    {
        if (PeerFailure.Caused(exception))
            WaitForAny(ShortWait);
        lock (_gate)
            _ending = true;
        foreach (var child in _children.Where(child => child.HasFailed))
            child.Output?.Drain(ShortWait / 2);
        KillAll();
    }

    private void OnProcessExit(object? sender, EventArgs e)
    {
        var code = Environment.ExitCode;
        if (code == 0)
            WaitForAll(ExitTimeout());
        lock (_gate)
            _ending = true; // when rank 0 ended badly, from the beginning: what its end does to the others is not the cause
        if (code != 0)
            WaitForAll(ShortWait);
        var late = _children.Where(child => !child.Process.HasExited).ToList();
        if (late.Count > 0 && code == 0)
        {
            Console.Error.WriteLine($"FabricSharp: rank 0 has ended but {string.Join(", ", late.Select(child => $"rank {child.Rank}"))} still ran after {ExitTimeout().TotalSeconds:0} s ({ExitTimeoutVariable}); ended by force.");
            code = 1;
        }

        KillAll();
        _children.ForEach(child => child.Output?.Drain(ShortWait));
        var failed = _children.FirstOrDefault(child => child.HasFailed && !late.Contains(child));
        Environment.ExitCode = code == 0 && failed is not null ? failed.Process.ExitCode : code;
    }

    private static TimeSpan ExitTimeout() => TimeSpan.FromSeconds(
        double.TryParse(Environment.GetEnvironmentVariable(ExitTimeoutVariable), NumberStyles.Float, CultureInfo.InvariantCulture, out var seconds) && seconds >= 0
            ? seconds
            : DefaultExitTimeout);

    private void WaitForAny(TimeSpan limit)
    {
        var start = Stopwatch.GetTimestamp();
        while (Stopwatch.GetElapsedTime(start) < limit && !_children.Any(child => child.HasFailed))
            foreach (var child in _children)
                child.Process.WaitForExit(TimeSpan.FromMilliseconds(5));
    }

    private void WaitForAll(TimeSpan limit)
    {
        var start = Stopwatch.GetTimestamp();
        foreach (var child in _children)
        {
            var left = limit - Stopwatch.GetElapsedTime(start);
            child.Process.WaitForExit(left > TimeSpan.Zero ? left : TimeSpan.Zero);
        }
    }

    private void KillAll()
    {
        foreach (var child in _children)
        {
            try
            {
                child.Process.Kill(entireProcessTree: true);
            }
            catch (Exception e) when (e is InvalidOperationException or System.ComponentModel.Win32Exception)
            {
                // it has ended meanwhile
            }
        }
    }

    private static void ExitNow(int code)
    {
        UnsavedFiles.SaveAll(); // this may be rank 0, and exit handlers do not run
        if (PosixApi.IsSupported)
            PosixApi.ExitNow(code);
        Environment.Exit(code);
    }

    private sealed class ChildRank(int rank, Process process)
    {
        public int Rank { get; } = rank;

        public Process Process { get; } = process;

        public RankOutput? Output { get; set; }

        public bool HasFailed => Process.HasExited && Process.ExitCode != 0;
    }
}
