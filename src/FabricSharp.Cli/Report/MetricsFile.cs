using System.Globalization;

namespace FabricSharp.Cli.Report;

/// <summary>What a <c>CsvLogger</c> wrote: curves over the steps, by name.</summary>
internal sealed record MetricsFile(string Path, IReadOnlyList<Curve> Curves)
{
    public const string FileName = "metrics.csv";

    private const long MaxBytes = 256L << 20;
    private const int MaxColumns = 4096, DepthSearched = 6;

    /// <summary>The newest in <paramref name="directory"/> or below; null where there is none.</summary>
    public static MetricsFile? Find(string directory)
    {
        var options = new EnumerationOptions { RecurseSubdirectories = true, MaxRecursionDepth = DepthSearched, IgnoreInaccessible = true };
        return Directory.EnumerateFiles(directory, FileName, options).MaxBy(File.GetLastWriteTimeUtc) is { } path ? Read(path) : null;
    }

    /// <exception cref="InvalidDataException">The file is no table of numbers.</exception>
    /// <exception cref="IOException">It cannot be read.</exception>
    public static MetricsFile Read(string path)
    {
        if (new FileInfo(path).Length > MaxBytes)
            throw new InvalidDataException($"'{path}' is larger than {Text.Bytes(MaxBytes)}.");
        using var reader = new StreamReader(new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete));
        var columns = Cells(reader.ReadLine() ?? "");
        var step = columns.IndexOf("step");
        if (step < 0 || columns.Count > MaxColumns)
            throw new InvalidDataException($"'{path}' is no metrics.csv of CsvLogger: its first line has no column 'step'.");
        var curves = columns.ConvertAll(name => new Curve(name, []));
        for (var number = 2; reader.ReadLine() is { } line; number++)
            AddRow(path, number, line.Split(','), step, curves);
        return new MetricsFile(path, [.. curves.Where((curve, i) => i != step && curve.Points.Count > 0)]);
    }

    private static void AddRow(string path, int line, string[] cells, int step, List<Curve> curves)
    {
        if (cells.Length != curves.Count)
            throw new InvalidDataException($"'{path}', line {line}: {cells.Length} cells where the first line has {curves.Count}.");
        if (!double.TryParse(cells[step], NumberStyles.Float, CultureInfo.InvariantCulture, out var at) || !double.IsFinite(at))
            throw new InvalidDataException($"'{path}', line {line}: the step is no number.");
        for (var i = 0; i < cells.Length; i++)
        {
            if (cells[i].Length == 0)
                continue;
            if (!double.TryParse(cells[i], NumberStyles.Float, CultureInfo.InvariantCulture, out var value))
                throw new InvalidDataException($"'{path}', line {line}: the value of '{curves[i].Name}' is no number.");
            if (double.IsFinite(value))
                curves[i].Points.Add((at, value));
        }
    }

    private static List<string> Cells(string line)
    {
        var cells = new List<string>();
        for (var i = 0; i <= line.Length;)
        {
            if (i < line.Length && line[i] == '"')
            {
                var end = i + 1;
                while (end < line.Length && (line[end] != '"' || (end + 1 < line.Length && line[end + 1] == '"')))
                    end += line[end] == '"' ? 2 : 1;
                cells.Add(line[(i + 1)..Math.Min(end, line.Length)].Replace("\"\"", "\"", StringComparison.Ordinal));
                i = end + 2;
            }
            else
            {
                var end = line.IndexOf(',', i) is var comma and >= 0 ? comma : line.Length;
                cells.Add(line[i..end]);
                i = end + 1;
            }
        }

        return cells;
    }
}

/// <summary>A metric by step.</summary>
internal sealed record Curve(string Name, List<(double Step, double Value)> Points);
