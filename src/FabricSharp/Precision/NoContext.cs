namespace FabricSharp.Precision;

/// <summary>A scope in which everything is as outside.</summary>
internal sealed class NoContext : IDisposable
{
    public static readonly NoContext Instance = new();

    public void Dispose()
    {
    }
}
