using System.Text.Json;

namespace FabricSharp.MultiProcess.Worker;

/// <summary>What a rank tells the test.</summary>
internal static class Report
{
    /// <summary>A folder for the reports, besides standard output: mpirun mixes the lines of its ranks when they are long.</summary>
    private static readonly string? Folder = Environment.GetEnvironmentVariable("FABRIC_TEST_REPORTS");

    public static void Send(object content)
    {
        var line = "report " + JsonSerializer.Serialize(content);
        if (Folder is not null)
            File.AppendAllLines(Path.Combine(Folder, $"{Environment.ProcessId}"), [line]);
        Console.WriteLine(line);
        Console.Out.Flush();
    }

    /// <summary>Runs <paramref name="action"/> and reports the exception that it ends in, if any, with its type and message.</summary>
    public static void Outcome(int rank, Action action)
    {
        try
        {
            action();
            Send(new { rank, exception = (string?)null, message = (string?)null });
        }
        catch (Exception e)
        {
            Send(new { rank, exception = e.GetType().Name, message = e.Message });
        }
    }
}
