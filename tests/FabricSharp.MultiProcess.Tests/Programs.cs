using System.Reflection;

namespace FabricSharp.MultiProcess.Tests;

/// <summary>Where the programs lie that the tests start.</summary>
internal static class Programs
{
    public static string RepositoryRoot { get; } = Metadata("RepositoryRoot");

    public static string Configuration { get; } = Metadata("Configuration");

    public static string Worker { get; } = Path.Combine(RepositoryRoot, "tests", "FabricSharp.MultiProcess.Worker", Metadata("OutputFolder"), "FabricSharp.MultiProcess.Worker");

    public static string FashionMnist { get; } = Path.Combine(RepositoryRoot, "examples", "FashionMnist", Metadata("OutputFolder"), "FashionMnist");

    public static string ByFeature { get; } = Path.Combine(RepositoryRoot, "examples", "ByFeature", Metadata("OutputFolder"), "ByFeature");

    /// <summary>The <c>fabric</c> tool.</summary>
    public static string Fabric { get; } = Path.Combine(RepositoryRoot, "src", "FabricSharp.Cli", "bin", Configuration, "net10.0", "fabric");

    /// <summary>A step of the page docs/getting-started.md.</summary>
    public static string GettingStarted(string step) => Path.Combine(RepositoryRoot, "examples", "GettingStarted", Metadata("OutputFolder"), step);

    private static string Metadata(string key) =>
        typeof(Programs).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(attribute => attribute.Key == key).Value!;
}
