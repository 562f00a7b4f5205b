using System.Diagnostics;

namespace FabricSharp.Testing;

/// <summary>The process of one rank, with all that it starts.</summary>
internal sealed class StartedRank
{
    /// <summary>How long the last lines of a process that has ended are waited for.</summary>
    private static readonly TimeSpan LimitOfOutput = TimeSpan.FromSeconds(5);

    private readonly Process _process;
    private readonly Task<string> _output, _error;
    private bool _byForce;

    public StartedRank(int rank, ProcessStartInfo info)
    {
        Rank = rank;
        _process = Process.Start(info)!;
        _output = _process.StandardOutput.ReadToEndAsync();
        _error = _process.StandardError.ReadToEndAsync();
    }

    public int Rank { get; }

    public bool HasEnded => _process.HasExited;

    public async Task<int> ExitAsync(CancellationToken cancellation)
    {
        await _process.WaitForExitAsync(cancellation);
        return _process.ExitCode;
    }

    /// <summary>Ends the process, if it runs, and what it has started.</summary>
    public void End()
    {
        if (_process.HasExited)
            return;
        _byForce = true;
        try
        {
            _process.Kill(entireProcessTree: true);
        }
        catch (InvalidOperationException)
        {
            // it has ended meanwhile
        }
    }

    public async Task<RankProcess> ResultAsync()
    {
        await _process.WaitForExitAsync();
        return new RankProcess(Rank, _byForce ? null : _process.ExitCode, await TextAsync(_output), await TextAsync(_error));
    }

    private static async Task<string> TextAsync(Task<string> text)
    {
        try
        {
            return await text.WaitAsync(LimitOfOutput);
        }
        catch (TimeoutException)
        {
            return "(the output is held open by another process)\n";
        }
    }
}
