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
    public static void Write(string path, IReadOnlyDictionary<string, object?> state) =>
        Write(new CheckpointPlace(path), SavedEntry.OfAll(state, filter: null, [RankParts.Of(state)]), keepLast: null);

    /// <param name="place">Where to.</param>
    /// <param name="entries">What.</param>
    /// <param name="keepLast">How many of the family stay, this one included; null leaves the others alone.</param>
    /// <exception cref="CheckpointException">Writing failed; the old checkpoint is as before.</exception>
    public static void Write(CheckpointPlace place, IReadOnlyList<SavedEntry> entries, int? keepLast)
    {
        try
        {
            Leftovers.RemoveBeside(place);
            FreeSpace.Require(place, SizeOf(entries));
            place.Write(folder => WriteFiles(folder, entries));
            if (keepLast is { } count)
                CheckpointFamily.Of(place).RemoveOlderThanLast(count);
        }
        catch (Exception e) when (e is ArgumentOutOfRangeException or (not ArgumentException and not CheckpointException)) // a file larger than the system allows is out of range for .NET
        {
            throw new CheckpointException($"The checkpoint '{place.Path}' could not be saved: {e.Message} What was there before is unchanged.", e);
        }
    }

    public static string NameOf(EntryKind kind) => JsonNamingPolicy.CamelCase.ConvertName(kind.ToString());

    public static EntryKind? ParseKind(string? name) => Array.FindIndex(Enum.GetValues<EntryKind>(), kind => NameOf(kind) == name) is >= 0 and var index ? Enum.GetValues<EntryKind>()[index] : null;

    /// <summary>A little too large: headers and JSON are not known before they are made.</summary>
    private static long SizeOf(IReadOnlyList<SavedEntry> entries) =>
        (64 << 10) + entries.Sum(entry => 1024 + entry.Bytes + 256L * entry.Tensors.Count + (entry.HasTensors ? entry.Metadata.Sum(text => text.Value.Length) : entry.Value.GetRawText().Length));

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
        if (!entry.HasTensors)
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
