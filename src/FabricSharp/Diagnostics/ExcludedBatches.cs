using System.Text.Json;

namespace FabricSharp.Diagnostics;

/// <summary>Numbers of batches in a JSON file, in the order in which they were found.</summary>
internal sealed class ExcludedBatches
{
    private static readonly JsonSerializerOptions Json = new() { WriteIndented = true };

    private readonly List<long> _numbers;
    private readonly HashSet<long> _known;

    public ExcludedBatches(string path)
    {
        Path = path.EndsWith(".json", StringComparison.OrdinalIgnoreCase) ? path : System.IO.Path.Combine(path, "skip_batches.json");
        _numbers = File.Exists(Path) ? Read(Path) : [];
        _known = [.. _numbers];
    }

    public string Path { get; }

    public IReadOnlyCollection<long> Numbers => _numbers;

    public bool Contains(long number) => _known.Contains(number);

    /// <summary>Adds those that are new and not negative, and replaces the file.</summary>
    public void Add(IEnumerable<long> numbers, bool write)
    {
        _numbers.AddRange(numbers.Where(number => number >= 0 && _known.Add(number)));
        if (!write)
            return;
        var folder = System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(Path))!;
        Directory.CreateDirectory(folder);
        ReplacedFile.Write(Path, stream => JsonSerializer.Serialize(stream, _numbers, Json));
    }

    private static List<long> Read(string path)
    {
        try
        {
            return JsonSerializer.Deserialize<List<long>>(File.ReadAllText(path)) ?? [];
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"'{path}' should hold a JSON list of batch numbers, such as [41, 42], but does not: {e.Message} Correct or delete it.", e);
        }
    }
}
