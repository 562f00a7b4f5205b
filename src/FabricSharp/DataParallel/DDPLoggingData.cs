using System.Text.Json;

namespace FabricSharp.DataParallel;

/// <summary>
/// What the data-parallel training of one model is and has measured on this rank: a snapshot, for logs. Names follow PyTorch's DDP logging data.
/// </summary>
public sealed record DDPLoggingData
{
    /// <summary>The model's name.</summary>
    public required string ModuleName { get; init; }

    /// <summary>The number of ranks.</summary>
    public required int WorldSize { get; init; }

    /// <summary>This rank.</summary>
    public required int Rank { get; init; }

    /// <summary>The process group's back end.</summary>
    public required string BackendName { get; init; }

    /// <summary>The options of the training.</summary>
    public required DDPOptions Options { get; init; }

    /// <summary>The communication hook's name; null where the plain all-reduce is used.</summary>
    public required string? CommunicationHook { get; init; }

    /// <summary>Whether gradients are averaged while the backward pass runs; false where libtorch's hooks are missing: then after it.</summary>
    public required bool UsesGradientHooks { get; init; }

    /// <summary>Number of parameters that are averaged.</summary>
    public required int ParameterTensors { get; init; }

    /// <summary>Their size in bytes.</summary>
    public required long ParameterBytes { get; init; }

    /// <summary>Their data types.</summary>
    public required IReadOnlyList<string> DataTypes { get; init; }

    /// <summary>Bytes of the buckets, in the order in which they are sent.</summary>
    public required IReadOnlyList<long> BucketSizes { get; init; }

    /// <summary>The names of each bucket's parameters, in the same order.</summary>
    public required IReadOnlyList<IReadOnlyList<string>> BucketParameters { get; init; }

    /// <summary>Whether the buckets follow the order in which gradients became ready, as measured, and not only that of registration.</summary>
    public required bool HasRebuiltBuckets { get; init; }

    /// <summary>Synchronised backward passes so far.</summary>
    public required long Iterations { get; init; }

    /// <summary>Bytes of gradients that this rank has sent for averaging so far.</summary>
    public required long BytesSent { get; init; }

    /// <summary>Bytes of gradients that were not sent, because no rank had used their parameters.</summary>
    public required long BytesSaved { get; init; }

    /// <summary>How often the ranks told each other what they used: once a backward pass, and with a static graph in the first only.</summary>
    public required long ControlExchanges { get; init; }

    /// <summary>Whether the same parameters were used in all passes on this rank, so that <see cref="DDPOptions.StaticGraph"/> could be promised.</summary>
    public required bool CanSetStaticGraph { get; init; }

    /// <summary>Times of the last complete step.</summary>
    public required StepTimes LastStep { get; init; }

    /// <summary>Mean times of all complete steps.</summary>
    public required StepTimes AverageStep { get; init; }

    /// <summary>One JSON object with the properties in snake_case, as PyTorch names them; times in nanoseconds.</summary>
    public string ToJson() => JsonSerializer.Serialize(new
    {
        module_name = ModuleName,
        world_size = WorldSize,
        rank = Rank,
        backend_name = BackendName,
        find_unused_parameters = Options.FindUnusedParameters,
        static_graph = Options.StaticGraph,
        gradient_as_bucket_view = Options.GradientAsBucketView,
        broadcast_buffers = Options.BroadcastBuffers,
        bucket_cap_bytes = Options.BucketBytes,
        comm_hook = CommunicationHook ?? "",
        gradient_hooks = UsesGradientHooks,
        num_parameter_tensors = ParameterTensors,
        total_parameter_size_bytes = ParameterBytes,
        dtypes = DataTypes,
        bucket_sizes = BucketSizes,
        bucket_parameters = BucketParameters,
        has_rebuilt_buckets = HasRebuiltBuckets,
        iteration = Iterations,
        bytes_sent = BytesSent,
        bytes_saved = BytesSaved,
        control_exchanges = ControlExchanges,
        can_set_static_graph = CanSetStaticGraph,
        forward_compute_time = LastStep.Forward.TotalNanoseconds,
        backward_compute_time = LastStep.Backward.TotalNanoseconds,
        backward_comm_time = LastStep.Communication.TotalNanoseconds,
        backward_compute_comm_overlap_time = LastStep.Overlap.TotalNanoseconds,
        avg_forward_compute_time = AverageStep.Forward.TotalNanoseconds,
        avg_backward_compute_time = AverageStep.Backward.TotalNanoseconds,
        avg_backward_comm_time = AverageStep.Communication.TotalNanoseconds,
        avg_backward_compute_comm_overlap_time = AverageStep.Overlap.TotalNanoseconds,
    });
}
