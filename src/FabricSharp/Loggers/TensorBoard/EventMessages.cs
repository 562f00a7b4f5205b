namespace FabricSharp.Loggers.TensorBoard;

/// <summary>
/// TensorBoard's events.
/// <code>
/// Event           1 wall_time (double, seconds since 1970)   2 step (int64)   3 file_version (string)   5 summary (Summary)
/// Summary         1 value (Value, repeated)
/// Value           1 tag (string)   2 simple_value (float)   9 metadata (SummaryMetadata)
/// SummaryMetadata 1 plugin_data: 1 plugin_name (string)   2 content (bytes)
/// </code>
/// </summary>
internal static class EventMessages
{
    /// <summary>The first event of every file.</summary>
    public static ProtocolMessage FileVersion(double wallTime) => new ProtocolMessage().Double(1, wallTime).Text(3, "brain.Event:2");

    public static ProtocolMessage Scalar(double wallTime, long step, string tag, float value) =>
        Summary(wallTime, step, new ProtocolMessage().Text(1, tag).Float(2, value));

    public static ProtocolMessage PluginData(double wallTime, string tag, string plugin, ProtocolMessage content)
    {
        var data = new ProtocolMessage().Text(1, plugin).Message(2, content);
        var metadata = new ProtocolMessage().Message(1, data);
        return Summary(wallTime, 0, new ProtocolMessage().Text(1, tag).Message(9, metadata));
    }

    private static ProtocolMessage Summary(double wallTime, long step, ProtocolMessage value) =>
        new ProtocolMessage().Double(1, wallTime).Integer(2, step).Message(5, new ProtocolMessage().Message(1, value));
}
