namespace FabricSharp.Loggers.TensorBoard;

/// <summary>
/// What TensorBoard's HPARAMS page reads, three summaries with fixed tags.
/// <code>
/// HParamsPluginData  2 experiment   3 session_start_info   4 session_end_info
/// Experiment         4 hparam_infos: 1 name   4 type (1 string, 2 bool, 3 float64)      5 metric_infos: 1 name: 2 tag
/// SessionStartInfo   1 hparams (map: 1 key   2 google.protobuf.Value)   5 start_time_secs
/// SessionEndInfo     1 status (1 success, 2 failure)   2 end_time_secs
/// google.protobuf.Value   2 number (double)   3 string   4 bool
/// </code>
/// </summary>
internal static class HyperparameterMessages
{
    private const string Plugin = "hparams";

    public static ProtocolMessage Experiment(double wallTime, IEnumerable<KeyValuePair<string, object>> parameters, IEnumerable<string> metrics)
    {
        var experiment = new ProtocolMessage();
        foreach (var (name, value) in parameters)
            experiment.Message(4, new ProtocolMessage().Text(1, name).Integer(4, value switch { string => 1, bool => 2, _ => 3 }));
        foreach (var tag in metrics)
            experiment.Message(5, new ProtocolMessage().Message(1, new ProtocolMessage().Text(2, tag)));
        return EventMessages.PluginData(wallTime, "_hparams_/experiment", Plugin, new ProtocolMessage().Message(2, experiment));
    }

    public static ProtocolMessage SessionStart(double wallTime, IEnumerable<KeyValuePair<string, object>> parameters)
    {
        var session = new ProtocolMessage();
        foreach (var (name, value) in parameters)
            session.Message(1, new ProtocolMessage().Text(1, name).Message(2, Value(value)));
        session.Double(5, wallTime);
        return EventMessages.PluginData(wallTime, "_hparams_/session_start_info", Plugin, new ProtocolMessage().Message(3, session));
    }

    public static ProtocolMessage SessionEnd(double wallTime, bool isSuccess)
    {
        var session = new ProtocolMessage().Integer(1, isSuccess ? 1 : 2).Double(2, wallTime);
        return EventMessages.PluginData(wallTime, "_hparams_/session_end_info", Plugin, new ProtocolMessage().Message(4, session));
    }

    private static ProtocolMessage Value(object value) => value switch
    {
        bool flag => new ProtocolMessage().Integer(4, flag ? 1 : 0),
        string text => new ProtocolMessage().Text(3, text),
        long number => new ProtocolMessage().Double(2, number),
        _ => new ProtocolMessage().Double(2, (double)value),
    };
}
