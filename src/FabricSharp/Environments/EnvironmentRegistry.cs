using FabricSharp.Configuration;

namespace FabricSharp.Environments;

/// <summary>The environments by name, in the order in which they are asked whether they are the one.</summary>
internal static class EnvironmentRegistry
{
    private static readonly (string Name, Func<Func<string, string?>, bool> Detect, Func<Func<string, string?>, ClusterEnvironment> Read)[] Known =
    [
        ("torchelastic", TorchElasticEnvironment.Detect, TorchElasticEnvironment.Read),
        ("slurm", SlurmEnvironment.Detect, SlurmEnvironment.Read),
        ("lsf", LsfEnvironment.Detect, LsfEnvironment.Read),
        ("mpi", MpiEnvironment.Detect, MpiEnvironment.Read),
        ("kubeflow", KubeflowEnvironment.Detect, KubeflowEnvironment.Read),
        ("local", _ => true, LocalEnvironment.Read),
    ];

    /// <summary>The environment that this process was started in.</summary>
    /// <param name="variable">Reads an environment variable.</param>
    public static ClusterEnvironment Detect(Func<string, string?> variable) => Known.First(known => known.Detect(variable)).Read(variable);

    /// <summary>The environment of a name, whatever would be detected.</summary>
    public static ClusterEnvironment Read(string name, Func<string, string?> variable)
    {
        var (known, _, read) = Array.Find(Known, known => known.Name.Equals(name, StringComparison.OrdinalIgnoreCase));
        return known is not null ? read(variable) : throw UnknownName.For("cluster environment", name, Known.Select(entry => entry.Name));
    }
}
