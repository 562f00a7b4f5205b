using FabricSharp.Loggers;

namespace FabricSharp.Tests.Loggers;

/// <summary>Keeps what it is told, as text.</summary>
internal sealed class RecordingLogger(string name = "recording") : ILogger
{
    public List<string> Calls { get; } = [];

    public string Name => name;

    public string Version => "0";

    public void LogMetrics(IReadOnlyDictionary<string, double> metrics, long? step = null) =>
        Calls.Add(FormattableString.Invariant($"{step}: ") + string.Join(' ', metrics.Select(metric => FormattableString.Invariant($"{metric.Key}={metric.Value}"))));

    public void LogHyperparameters(IReadOnlyDictionary<string, object?> parameters) => Calls.Add($"parameters {string.Join(' ', parameters.Keys)}");

    public void Save() => Calls.Add("save");

    public void Finalize(string status) => Calls.Add(status);
}
