using System.Text.Json;

namespace FabricSharp.Checkpointing;

/// <summary>What is not a tensor in an optimizer's state; JSON in the metadata of the file with its tensors.</summary>
/// <param name="Type">The optimizer's class, without its namespace.</param>
/// <param name="Groups">Its parameter groups.</param>
/// <param name="States">One for each parameter, groups in order: name of a field → number, or the name of a tensor in the file, or null.</param>
internal sealed record OptimizerDescription(
    string Type, IReadOnlyList<OptimizerDescription.Group> Groups, IReadOnlyList<IReadOnlyDictionary<string, JsonElement>> States)
{
    public const string MetadataName = "fabricsharp.optimizer";

    public static readonly JsonSerializerOptions Json = new(PlainValue.Json)
    {
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        AllowDuplicateProperties = false,
        RespectNullableAnnotations = true,
        RespectRequiredConstructorParameters = true,
    };

    public static OptimizerDescription Of(TensorFile file)
    {
        try
        {
            var description = JsonSerializer.Deserialize<OptimizerDescription>(TextOf(file), Json);
            if (description is null || description.Groups.Contains(null) || description.States.Contains(null))
                throw new JsonException("a part of the optimizer's description is null");
            return description;
        }
        catch (JsonException e)
        {
            throw new CheckpointException($"'{file.Path}' is corrupt: {e.Message}", e);
        }
    }

    public static string TextOf(TensorFile file) => file.Metadata.TryGetValue(MetadataName, out var text)
        ? text
        : throw new CheckpointException($"'{file.Path}' is no optimizer's state: its metadata have no '{MetadataName}'. Optimizer states of PyTorch are read from its own files (.pt, .ckpt).");

    /// <param name="Options">Learning rate and the like, by name.</param>
    /// <param name="Parameters">Type and shape of each parameter, such as <c>F32[3,2]</c>.</param>
    internal sealed record Group(IReadOnlyDictionary<string, JsonElement> Options, IReadOnlyList<string> Parameters);
}
