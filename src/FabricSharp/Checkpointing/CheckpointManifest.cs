using System.Text.Json;
using System.Text.RegularExpressions;

namespace FabricSharp.Checkpointing;

/// <summary>One file of a checkpoint.</summary>
/// <param name="Name">Its name within the folder.</param>
/// <param name="Size">In bytes.</param>
/// <param name="XxHash128">The checksum of <see cref="FileChecksum"/>: 32 hexadecimal digits.</param>
internal sealed record ManifestFile(string Name, long Size, string XxHash128);

/// <summary>The list of a checkpoint's files, itself <c>manifest.json</c>. It is written last.</summary>
/// <param name="Format">Tells a checkpoint from other folders.</param>
/// <param name="Version">Of the layout.</param>
/// <param name="Files">All files but this one.</param>
internal sealed partial record CheckpointManifest(string Format, int Version, IReadOnlyList<ManifestFile> Files)
{
    public const string FileName = "manifest.json";
    public const string FormatName = "fabricsharp-checkpoint";
    public const int CurrentVersion = 1;

    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web)
    {
        WriteIndented = true,
        AllowDuplicateProperties = false,
        RespectNullableAnnotations = true,
        RespectRequiredConstructorParameters = true,
    };

    public static byte[] Write(IReadOnlyList<ManifestFile> files) => JsonSerializer.SerializeToUtf8Bytes(new CheckpointManifest(FormatName, CurrentVersion, files), Json);

    /// <param name="content">Of the file.</param>
    /// <param name="path">Of the file, for messages.</param>
    public static CheckpointManifest Parse(ReadOnlySpan<byte> content, string path)
    {
        try
        {
            var manifest = JsonSerializer.Deserialize<CheckpointManifest>(content, Json) ?? throw new JsonException("it is empty");
            manifest.Check(path);
            return manifest;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new CheckpointException($"'{path}' is corrupt: {e.Message}", e);
        }
    }

    private void Check(string path)
    {
        if (Format != FormatName)
            throw new CheckpointException($"'{path}' belongs to something else: its format is '{Format}', a checkpoint's is '{FormatName}'.");
        if (Version != CurrentVersion)
            throw new CheckpointException($"'{path}' has version {Version}; this FabricSharp reads version {CurrentVersion}. Read it with a newer FabricSharp.");
        foreach (var file in Files)
            if (file is null || !SafeName().IsMatch(file.Name) || file.Size < 0 || !Digest().IsMatch(file.XxHash128))
                throw new CheckpointException($"'{path}' is corrupt: it lists the file '{file?.Name}' of {file?.Size} bytes and XXH3 '{file?.XxHash128}'. A name is one of this folder, made of letters, digits, '_', '-' and '.'.");
        if (Files.GroupBy(file => file.Name).FirstOrDefault(same => same.Count() > 1) is { } twice)
            throw new CheckpointException($"'{path}' is corrupt: it lists '{twice.Key}' twice.");
    }

    /// <summary>A name that cannot lead out of the folder.</summary>
    [GeneratedRegex(@"\A[A-Za-z0-9_][A-Za-z0-9_.-]*\z")]
    private static partial Regex SafeName();

    [GeneratedRegex(@"\A[0-9a-fA-F]{32}\z")]
    private static partial Regex Digest();
}
