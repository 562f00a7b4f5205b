using FabricSharp.Tracing;

namespace FabricSharp.Cli.Report;

/// <summary>The files that the ranks of one run have written to a folder.</summary>
internal sealed class RecordedRun
{
    private const int DepthSearched = 4;

    private RecordedRun(string folder, IReadOnlyList<TraceFile> ranks, IReadOnlyList<string> warnings)
    {
        Folder = folder;
        Ranks = ranks;
        Warnings = warnings;
    }

    public string Folder { get; }

    /// <summary>By rank; ranks whose file is missing are left out.</summary>
    public IReadOnlyList<TraceFile> Ranks { get; }

    /// <summary>What the reader of a report has to know of the files.</summary>
    public IReadOnlyList<string> Warnings { get; }

    public int WorldSize => Ranks[0].WorldSize;

    /// <summary>Reads the run in <paramref name="directory"/>, or in the one folder below that has one.</summary>
    /// <exception cref="ArgumentException">There is no such folder, no run in it, or more than one.</exception>
    /// <exception cref="InvalidDataException">A file is damaged.</exception>
    public static RecordedRun Read(string directory)
    {
        var folder = FolderOf(directory);
        return Of(folder, [.. FilesIn(folder).Select(TraceReader.Read)]);
    }

    public static RecordedRun Of(string folder, IReadOnlyList<TraceFile> files)
    {
        var newest = files.MaxBy(file => file.Started)!;
        var ranks = files.Where(file => file.Run == newest.Run && file.WorldSize == newest.WorldSize).DistinctBy(file => file.Rank).OrderBy(file => file.Rank).ToList();
        var warnings = new List<string>();
        var missing = Enumerable.Range(0, newest.WorldSize).Except(ranks.Select(file => file.Rank)).ToList();
        if (missing.Count > 0)
            warnings.Add($"There is no file of {Text.Ranks(missing)}: the run had {newest.WorldSize} ranks. A process that is killed outright writes none; ranks on other machines write theirs there, to be copied here.");
        var others = files.Except(ranks).Select(file => TraceFile.NameFor(file.Rank)).ToList();
        if (others.Count > 0)
            warnings.Add($"Left out, because of another run: {string.Join(", ", others)}.");
        foreach (var file in ranks.Where(file => file.Failure is not null))
            warnings.Add($"Rank {file.Rank} ended in a failure: {file.Failure}");
        return new RecordedRun(folder, ranks, warnings);
    }

    private static string FolderOf(string directory)
    {
        if (!Directory.Exists(directory))
            throw new ArgumentException($"There is no folder '{directory}'. Name the one that FABRIC_TRACE or DDPStrategy.Trace named.");
        if (FilesIn(directory).Length > 0)
            return directory;
        var below = Directory.EnumerateFiles(directory, "*" + TraceFile.Suffix, new EnumerationOptions { RecurseSubdirectories = true, MaxRecursionDepth = DepthSearched, IgnoreInaccessible = true })
            .Select(file => Path.GetDirectoryName(file)!).Distinct().Order(StringComparer.Ordinal).ToList();
        return below.Count switch
        {
            0 => throw new ArgumentException($"There is no time line in '{directory}' (rank-0{TraceFile.Suffix} and so on). Record one: FABRIC_TRACE={directory} fabric run … , or new DDPStrategy {{ Trace = \"{directory}\" }}."),
            1 => below[0],
            _ => throw new ArgumentException($"'{directory}' has several runs: {string.Join(", ", below)}. Name one of them."),
        };
    }

    private static string[] FilesIn(string folder) => Directory.GetFiles(folder, "*" + TraceFile.Suffix);
}
