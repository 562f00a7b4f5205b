using System.Globalization;
using System.Text.RegularExpressions;

namespace FabricSharp.Checkpointing;

/// <summary>
/// The checkpoints of one run: complete checkpoints in one folder whose names differ in the number at the end, as <c>step-100</c> and <c>step-200</c>
/// do. The stem before the number ends in <c>-</c>, <c>_</c>, <c>=</c> or <c>.</c> and belongs to the name: <c>best-1</c> is of another family.
/// </summary>
internal sealed partial class CheckpointFamily
{
    private readonly string _folder;
    private readonly string _stem;
    private readonly ulong _number;

    private CheckpointFamily(string folder, string stem, ulong number) => (_folder, _stem, _number) = (folder, stem, number);

    /// <summary>The family of a checkpoint, which need not be there.</summary>
    /// <exception cref="ArgumentException">Its name does not end in a number.</exception>
    public static CheckpointFamily Of(CheckpointPlace place)
    {
        var name = Path.GetFileName(place.Path);
        return Numbered().Match(name) is { Success: true } match && NumberOf(match.Groups[2].Value) is { } number
            ? new CheckpointFamily(place.Parent, match.Groups[1].Value, number)
            : throw new ArgumentException($"keepLast needs names that end in a number, as 'step-100': '{name}' has none after a '-', '_', '=' or '.', so that it is not known which other checkpoints are older ones of the same run.", "keepLast");
    }

    /// <summary>The latest checkpoint whose name begins with <paramref name="stem"/>; null where there is none.</summary>
    public static string? Latest(string stem)
    {
        var full = Path.GetFullPath(stem);
        var family = new CheckpointFamily(Path.GetDirectoryName(full) ?? full, Path.GetFileName(full), 0);
        return family.Members().OrderByDescending(member => member.Number).FirstOrDefault().Place?.Path;
    }

    /// <summary>
    /// Keeps the checkpoint that the family was made from and those with the next smaller numbers, <paramref name="count"/> in all, and removes the
    /// older ones. Larger numbers stay: they are of a run that had come further, and not older.
    /// </summary>
    public void RemoveOlderThanLast(int count)
    {
        foreach (var (_, place) in Members().Where(member => member.Number < _number).OrderByDescending(member => member.Number).Skip(count - 1).ToList())
            place.Remove();
    }

    private IEnumerable<(ulong Number, CheckpointPlace Place)> Members()
    {
        if (!Directory.Exists(_folder))
            yield break;
        const string Old = ".fabric-old"; // one that was being replaced when its saver died
        var names = Directory.EnumerateDirectories(_folder).Select(path => Path.GetFileName(path)).Select(name => name.EndsWith(Old, StringComparison.Ordinal) ? name[..^Old.Length] : name).Distinct();
        foreach (var name in names.Where(name => name.StartsWith(_stem, StringComparison.Ordinal)))
            if (NumberOf(name[_stem.Length..]) is { } number && new CheckpointPlace(Path.Combine(_folder, name)) is var place && IsComplete(place))
                yield return (number, place);
    }

    /// <summary>Whether there is a folder with a manifest of ours: it is written last, and what is replaced or removed goes in one rename.</summary>
    private static bool IsComplete(CheckpointPlace place)
    {
        try
        {
            return place.Locate() is { } folder && Path.Combine(folder, CheckpointManifest.FileName) is var manifest && CheckpointManifest.Parse(File.ReadAllBytes(manifest), manifest) is not null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or CheckpointException)
        {
            return false;
        }
    }

    private static ulong? NumberOf(string text) => ulong.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : null;

    [GeneratedRegex(@"\A(.*[-_=.])([0-9]+)\z", RegexOptions.Singleline)]
    private static partial Regex Numbered();
}
