namespace FabricSharp.Tests.Loggers;

/// <summary>What is written to the standard error while an action runs.</summary>
internal static class StandardError
{
    public static string Of(Action action)
    {
        var before = Console.Error;
        using var writer = new StringWriter();
        Console.SetError(writer);
        try
        {
            action();
        }
        finally
        {
            Console.SetError(before);
        }

        return writer.ToString();
    }
}
