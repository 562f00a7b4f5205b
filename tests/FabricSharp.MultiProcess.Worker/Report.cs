using System.Text.Json;

namespace FabricSharp.MultiProcess.Worker;

/// <summary>What a rank tells the test.</summary>
internal static class Report
{
    public static void Send(object content)
    {
        Console.WriteLine("report " + JsonSerializer.Serialize(content));
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
