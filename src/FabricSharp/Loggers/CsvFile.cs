using System.Globalization;
using System.Text;
using FabricSharp.Diagnostics;

namespace FabricSharp.Loggers;

/// <summary>
/// A file of rows of numbers whose columns may become more. Rows are appended; a new column rewrites the file beside itself and replaces it,
/// so that a reader sees either. A write that failed can be tried again: what it left behind is overwritten.
/// </summary>
internal sealed class CsvFile(string path)
{
    private const string StepColumn = "step";
    private static readonly UTF8Encoding Utf8 = new(encoderShouldEmitUTF8Identifier: false);

    private readonly List<Dictionary<string, double>> _pending = [];
    private readonly SortedSet<string> _pendingColumns = new(StringComparer.Ordinal);
    private string[] _columns = [];
    private long _headerLength, _length;

    public int PendingRows => _pending.Count;

    public void Add(IEnumerable<KeyValuePair<string, double>> metrics, long step)
    {
        var row = new Dictionary<string, double>(StringComparer.Ordinal);
        foreach (var (name, value) in metrics)
            row[name] = value;
        row[StepColumn] = step;
        _pending.Add(row);
        _pendingColumns.UnionWith(row.Keys);
    }

    public void Save()
    {
        if (_pending.Count == 0)
            return;
        if (_pendingColumns.IsSubsetOf(_columns))
            Append();
        else
            Rewrite([.. _columns.Union(_pendingColumns).Order(StringComparer.Ordinal)]);
        _pending.Clear();
        _pendingColumns.Clear();
    }

    private void Append()
    {
        using var stream = new FileStream(path, FileMode.OpenOrCreate, FileAccess.Write, FileShare.ReadWrite);
        stream.SetLength(_length);
        stream.Position = _length;
        stream.Write(Utf8.GetBytes(PendingLines(_columns)));
        stream.Flush();
        _length = stream.Position;
    }

    private void Rewrite(string[] columns)
    {
        var header = Utf8.GetBytes(string.Join(',', columns.Select(Quoted)) + "\n");
        var length = 0L;
        ReplacedFile.Write(path, stream =>
        {
            stream.Write(header);
            foreach (var line in SavedLines())
                stream.Write(Utf8.GetBytes(Widened(line, columns)));
            stream.Write(Utf8.GetBytes(PendingLines(columns)));
            length = stream.Length;
        });
        (_columns, _headerLength, _length) = (columns, header.Length, length);
    }

    private IEnumerable<string> SavedLines()
    {
        if (_length == 0)
            yield break;
        using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        stream.Position = _headerLength;
        using var reader = new StreamReader(stream, Utf8);
        while (reader.ReadLine() is { } line)
            yield return line;
    }

    /// <summary>A saved row, which consists of numbers and blanks only, with blanks in the new columns.</summary>
    private string Widened(string line, string[] columns)
    {
        var cells = _columns.Zip(line.Split(',')).ToDictionary(pair => pair.First, pair => pair.Second, StringComparer.Ordinal);
        return string.Join(',', columns.Select(column => cells.GetValueOrDefault(column, ""))) + "\n";
    }

    private string PendingLines(string[] columns)
    {
        var text = new StringBuilder();
        foreach (var row in _pending)
            text.AppendJoin(',', columns.Select(column => row.TryGetValue(column, out var value) ? Text(value) : "")).Append('\n');
        return text.ToString();
    }

    private static string Text(double value) => value.ToString("R", CultureInfo.InvariantCulture);

    private static string Quoted(string name) =>
        name.AsSpan().IndexOfAny(",\"\r\n") < 0 ? name : $"\"{name.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";
}
