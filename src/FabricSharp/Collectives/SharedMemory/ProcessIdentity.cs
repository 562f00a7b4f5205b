using System.Diagnostics;
using System.Globalization;

namespace FabricSharp.Collectives.SharedMemory;

/// <summary>A process number with its start time, so that a number that was given out again is not taken for the old process.</summary>
internal readonly record struct ProcessIdentity(int Id, long StartTime)
{
    public static ProcessIdentity Current { get; } = new(Environment.ProcessId, ReadStartTime(Environment.ProcessId) ?? 0);

    /// <summary>Whether the process runs: a zombie, which a parent has yet to collect, does not.</summary>
    public bool IsAlive => ReadStartTime(Id) == StartTime;

    /// <summary>Whether the process was stopped by a signal or a debugger, as far as that can be seen.</summary>
    public bool IsStopped
    {
        get
        {
            try
            {
                return OperatingSystem.IsLinux() && ReadLinuxState(Id) is { State: "T" or "t" } now && now.StartTime == StartTime;
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                return false;
            }
        }
    }

    private static long? ReadStartTime(int id)
    {
        try
        {
            if (!OperatingSystem.IsLinux())
                return ReadPortableStartTime(id);
            var (state, startTime) = ReadLinuxState(id);
            return state is "Z" or "X" ? null : startTime;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or InvalidOperationException)
        {
            return null;
        }
    }

    /// <summary>/proc/ID/stat: "id (name, may contain anything) state ppid …", the start time is field 22.</summary>
    private static (string State, long StartTime) ReadLinuxState(int id)
    {
        var text = File.ReadAllText($"/proc/{id}/stat");
        var fields = text[(text.LastIndexOf(')') + 2)..].Split(' ');
        return (fields[0], long.Parse(fields[19], CultureInfo.InvariantCulture));
    }

    private static long? ReadPortableStartTime(int id)
    {
        using var process = Process.GetProcessById(id);
        return process.HasExited ? null : process.StartTime.Ticks;
    }
}
