namespace FabricSharp.DataParallel;

/// <summary>What the reducer knows about itself.</summary>
internal sealed partial class GradientReducer
{
    public DDPLoggingData LoggingData()
    {
        var bytes = _slots.Sum(slot => slot.Bytes);
        return new DDPLoggingData
        {
            ModuleName = ModuleName,
            WorldSize = _group.Size,
            Rank = _group.Rank,
            BackendName = _group.Backend,
            Options = _options,
            CommunicationHook = _hook?.Name,
            UsesGradientHooks = _usesHooks,
            ParameterTensors = _slots.Length,
            ParameterBytes = bytes,
            DataTypes = [.. _slots.Select(slot => slot.Type.ToString()).Distinct()],
            BucketSizes = BucketSizes,
            BucketParameters = [.. _buckets.Select(bucket => (IReadOnlyList<string>)[.. bucket.Slots.Select(slot => slot.Name)])],
            HasRebuiltBuckets = _hasRebuilt,
            Iterations = _passes,
            BytesSent = BytesSent,
            BytesSaved = _group.Size == 1 ? 0 : Math.Max(0, _passes * bytes - BytesSent),
            ControlExchanges = ControlExchanges,
            CanSetStaticGraph = _unused.IsUseConstant,
            LastStep = _clock.Last,
            AverageStep = _clock.Average,
        };
    }
}
