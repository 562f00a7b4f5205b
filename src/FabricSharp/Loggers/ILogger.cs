namespace FabricSharp.Loggers;

/// <summary>
/// Where metrics go. Fabric calls a logger on rank 0 only; a logger that is called by the user's own code must itself do nothing on other ranks,
/// as <see cref="CsvLogger"/> and <see cref="TensorBoardLogger"/> do.
/// </summary>
public interface ILogger
{
    /// <summary>What the experiment is called.</summary>
    string Name { get; }

    /// <summary>Which run of the experiment this is.</summary>
    string Version { get; }

    /// <summary>The folder under which everything is written; null where the logger writes no files.</summary>
    string? RootDirectory => null;

    /// <summary>Records one number for each name. Local.</summary>
    /// <param name="metrics">The numbers by name.</param>
    /// <param name="step">The training step that they belong to. <value>Default: the logger counts its calls, from 0.</value></param>
    void LogMetrics(IReadOnlyDictionary<string, double> metrics, long? step = null);

    /// <summary>Records numbers that belong in one diagram. Unless a logger can do better, each becomes the metric <c>group/name</c>. Local.</summary>
    /// <param name="group">The name of the diagram.</param>
    /// <param name="metrics">The numbers by name.</param>
    /// <param name="step">The training step that they belong to. <value>Default: the logger counts its calls, from 0.</value></param>
    void LogGroup(string group, IReadOnlyDictionary<string, double> metrics, long? step = null) =>
        LogMetrics(metrics.ToDictionary(metric => $"{group}/{metric.Key}", metric => metric.Value), step);

    /// <summary>Records what a run was started with. Local.</summary>
    /// <param name="parameters">Values by name; dictionaries inside become <c>outer/inner</c>.</param>
    void LogHyperparameters(IReadOnlyDictionary<string, object?> parameters);

    /// <summary>Brings everything that was recorded to where it can be read. Local.</summary>
    void Save();

    /// <summary>Ends the run: saves, and closes what is open. Local.</summary>
    /// <param name="status">How it ended: <c>"success"</c>, <c>"failed"</c>, <c>"aborted"</c>.</param>
    void Finalize(string status);
}
