using System.Diagnostics;
using System.Text;

namespace FabricSharp.MultiProcess.Tests;

/// <summary>A program under test with all the processes that it starts: its output is collected, it has a time limit, nothing of it outlives the test.</summary>
internal sealed class RunningProgram : IDisposable
{
    private readonly Process _process;
    private readonly StringBuilder _output = new(), _error = new();
    private readonly long _start = Stopwatch.GetTimestamp();
    private readonly List<(Func<string, bool> Condition, TaskCompletionSource Seen)> _watches = [];

    public RunningProgram(string executable, IEnumerable<string> arguments, params (string Name, string? Value)[] environment)
        : this(folder: "", executable, arguments, environment)
    {
    }

    private RunningProgram(string folder, string executable, IEnumerable<string> arguments, (string Name, string? Value)[] environment)
    {
        var info = new ProcessStartInfo(executable) { WorkingDirectory = folder, RedirectStandardOutput = true, RedirectStandardError = true, UseShellExecute = false };
        foreach (var argument in arguments)
            info.ArgumentList.Add(argument);
        foreach (var name in new[] { "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS", "FABRIC_GRADIENT_HOOKS" })
            info.Environment.Remove(name);
        foreach (var (name, value) in environment)
            info.Environment[name] = value;
        _process = new Process { StartInfo = info };
        _process.OutputDataReceived += (_, e) => Collect(_output, e.Data);
        _process.ErrorDataReceived += (_, e) => Collect(_error, e.Data);
        _process.Start();
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    public int Id => _process.Id;

    /// <summary>A program that finds <paramref name="folder"/> as its current folder.</summary>
    public static RunningProgram In(string folder, string executable, params string[] arguments) => new(folder, executable, arguments, []);

    public static RunningProgram Worker(string arguments, params (string Name, string? Value)[] environment) =>
        new(Programs.Worker, arguments.Split(' '), environment);

    /// <summary>Runs a worker's scenario to its end.</summary>
    public static async Task<ProgramResult> RunWorkerAsync(string arguments, TimeSpan? limit = null, params (string Name, string? Value)[] environment)
    {
        using var program = Worker(arguments, environment);
        return await program.EndAsync(limit ?? TimeSpan.FromSeconds(60));
    }

    /// <summary>Waits until a line of output satisfies <paramref name="condition"/>, or fails.</summary>
    public async Task SeeAsync(Func<string, bool> condition, TimeSpan limit)
    {
        var seen = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (_output)
        {
            if (_output.ToString().Split('\n').Any(condition))
                return;
            _watches.Add((condition, seen));
        }

        var first = await Task.WhenAny(seen.Task, Task.Delay(limit));
        Assert.True(first == seen.Task, $"The program did not print what was waited for within {limit.TotalSeconds} s. It printed:\n{_output}\n{_error}");
    }

    public async Task<ProgramResult> EndAsync(TimeSpan limit)
    {
        using var timeout = new CancellationTokenSource(limit);
        try
        {
            await _process.WaitForExitAsync(timeout.Token);
        }
        catch (OperationCanceledException)
        {
            Dispose();
            Assert.Fail($"The program did not end within {limit.TotalSeconds} s. It printed:\n{_output}\n{_error}");
        }

        lock (_output)
            return new ProgramResult(_process.ExitCode, _output.ToString(), _error.ToString(), Stopwatch.GetElapsedTime(_start));
    }

    public void Dispose()
    {
        try
        {
            _process.Kill(entireProcessTree: true);
        }
        catch (InvalidOperationException)
        {
            // it has ended
        }
    }

    private void Collect(StringBuilder text, string? line)
    {
        if (line is null)
            return;
        lock (_output)
        {
            text.Append(line).Append('\n');
            foreach (var (condition, seen) in _watches)
                if (condition(line))
                    seen.TrySetResult();
        }
    }
}
