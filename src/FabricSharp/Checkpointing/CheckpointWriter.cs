using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace FabricSharp.Checkpointing;

/// <summary>Writes the entries of a checkpoint: <c>KEY.safetensors</c> for each module and optimizer, <c>tensors.safetensors</c>, <c>state.json</c>.</summary>
internal static partial class CheckpointWriter
{
    public const string StateFileName = "state.json";
    public const string TensorsFileName = "tensors.safetensors";

    /// <exception cref="ArgumentException">Something cannot be saved; nothing was written.</exception>
    /// <exception cref="CheckpointException">Writing failed; the old checkpoint is as before.</exception>
    public static void Write(string path, IReadOnlyDictionary<string, object?> state)
    {
        var place = new CheckpointPlace(path);
        var entries = state.Select(entry => SavedEntry.Of(entry.Key, entry.Value)).ToList();
        try
        {
            place.Write(folder => WriteFiles(folder, entries));
        }
        catch (Exception e) when (e is not ArgumentException and not CheckpointException)
        {
            throw new CheckpointException($"The checkpoint '{place.Path}' could not be saved: {e.Message} What was there before is unchanged.", e);
        }
    }

    public static string NameOf(EntryKind kind) => JsonNamingPolicy.CamelCase.ConvertName(kind.ToString());

    public static EntryKind? ParseKind(string? name) => Array.FindIndex(Enum.GetValues<EntryKind>(), kind => NameOf(kind) == name) is >= 0 and var index ? Enum.GetValues<EntryKind>()[index] : null;

    private static void WriteFiles(string folder, IReadOnlyList<SavedEntry> entries)
    {
        var names = FileNames(entries);
        var files = new List<ManifestFile>();
        foreach (var entry in entries.Where(entry => entry.Kind is EntryKind.Module or EntryKind.Optimizer))
            files.Add(SafetensorsWriter.Write(folder, names[entry.Key], entry.Tensors, entry.Metadata));
        var loose = entries.Where(entry => entry.Kind == EntryKind.Tensor).SelectMany(entry => entry.Tensors).ToList();
        if (loose.Count > 0)
            files.Add(SafetensorsWriter.Write(folder, TensorsFileName, loose, SavedEntry.PlainMetadata));
        files.Add(HashedFile.Write(folder, StateFileName, StateJson(entries, names)));
        HashedFile.Write(folder, CheckpointManifest.FileName, CheckpointManifest.Write(files));
    }

    /// <summary>The key, where it is a good file name on every system; else a number.</summary>
    public static Dictionary<string, string> FileNames(IReadOnlyList<SavedEntry> entries)
    {
        var taken = new HashSet<string>(StringComparer.OrdinalIgnoreCase) { TensorsFileName };
        var names = new Dictionary<string, string>();
        foreach (var (index, entry) in entries.Index())
        {
            var name = $"{entry.Key}.safetensors";
            if (!FileNameKey().IsMatch(entry.Key) || !taken.Add(name))
                taken.Add(name = $"_{index}.safetensors"); // no key can give that name
            names.Add(entry.Key, entry.Kind == EntryKind.Tensor ? TensorsFileName : name);
        }

        return names;
    }

    public static ReadOnlySpan<byte> StateJson(IReadOnlyList<SavedEntry> entries, Dictionary<string, string> names)
    {
        var json = new MemoryStream();
        using (var writer = new Utf8JsonWriter(json, new JsonWriterOptions { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            writer.WriteStartObject();
            writer.WriteStartObject("entries");
            foreach (var entry in entries)
                WriteEntry(writer, entry, names[entry.Key]);
            writer.WriteEndObject();
            writer.WriteEndObject();
        }

        return json.GetBuffer().AsSpan(0, (int)json.Length);
    }

    private static void WriteEntry(Utf8JsonWriter writer, SavedEntry entry, string file)
    {
        writer.WriteStartObject(entry.Key);
        writer.WriteString("kind", NameOf(entry.Kind));
        if (entry.Kind == EntryKind.Value)
        {
            writer.WritePropertyName("value");
            entry.Value.WriteTo(writer);
        }
        else
        {
            writer.WriteString("file", file);
        }

        writer.WriteEndObject();
    }

    [GeneratedRegex(@"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\z")]
    private static partial Regex FileNameKey();
}
