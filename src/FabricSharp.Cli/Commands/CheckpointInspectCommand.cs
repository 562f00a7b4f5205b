using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using FabricSharp.Checkpointing;
using Spectre.Console;

namespace FabricSharp.Cli.Commands;

/// <summary><c>fabric checkpoint inspect</c>: what a checkpoint holds.</summary>
internal static class CheckpointInspectCommand
{
    private const int MaxValueCharacters = 100;

    /// <summary>Files and pipes have no right edge: nothing is wrapped for them.</summary>
    private const int RedirectedWidth = 4000;

    public static Command Create()
    {
        var path = CheckpointCommand.PathArgument();
        var json = new Option<bool>("--json") { Description = "One JSON object instead of tables." };
        var command = new Command("inspect", "Show what a checkpoint holds: entries, tensors with shapes, types and sizes, plain values.\n\nExamples:\n  fabric checkpoint inspect epoch=3.ckpt\n  fabric checkpoint inspect checkpoint --json") { path, json };
        command.SetAction(result => CheckpointCommand.Run("inspect", () => Run(result.GetValue(path)!, result.GetValue(json))));
        return command;
    }

    private static int Run(string path, bool json)
    {
        using var reader = CheckpointReader.Open(path, checkSums: false);
        if (json)
            Console.WriteLine(JsonSerializer.Serialize(Describe(reader), PlainValue.Json));
        else
            Show(reader);
        return 0;
    }

    private static object Describe(CheckpointReader reader) => new
    {
        path = reader.Path,
        format = reader.Format,
        entries = reader.Entries.Values.Select(entry => new
        {
            key = entry.Key,
            kind = CheckpointWriter.NameOf(entry.Kind),
            value = entry.Kind == EntryKind.Value ? entry.Value : (JsonElement?)null,
            metadata = reader.BareFile is null && entry.File is { Metadata.Count: > 0 } file ? file.Metadata : null,
            tensors = TensorsOf(entry).Select(tensor => new { name = tensor.Name, dtype = TypeOf(tensor), shape = tensor.Shape, bytes = tensor.Length }),
        }),
        metadata = reader.BareFile?.Metadata,
    };

    private static void Show(CheckpointReader reader)
    {
        var tensors = reader.Entries.Values.SelectMany(TensorsOf).ToList();
        Console.WriteLine($"{reader.Path}\n{reader.Format}, {reader.Entries.Count} entries, {tensors.Count} tensors, {SizeText(tensors.Sum(tensor => tensor.Length))}\n");
        var table = new Table().Border(TableBorder.None).AddColumns("entry", "kind", "tensor", "type", "shape", "size");
        table.Columns[^1].RightAligned();
        foreach (var entry in reader.Entries.Values)
            AddRows(table, entry);
        if (Console.IsOutputRedirected)
            AnsiConsole.Profile.Width = RedirectedWidth;
        AnsiConsole.Write(table);
        foreach (var (name, text) in reader.BareFile?.Metadata ?? new Dictionary<string, string>())
            Console.WriteLine($"metadata {Shortened(name)}: {Shortened(text)}");
    }

    private static void AddRows(Table table, StoredEntry entry)
    {
        var kind = CheckpointWriter.NameOf(entry.Kind);
        if (entry.Kind == EntryKind.Value)
        {
            table.AddRow(Cell(entry.Key), kind, Markup.Escape(Shortened(JsonSerializer.Serialize(entry.Value, PlainValue.Json))), "", "", "");
            return;
        }

        var first = true;
        foreach (var tensor in TensorsOf(entry))
        {
            table.AddRow(first ? Cell(entry.Key) : "", first ? kind : "", entry.Kind == EntryKind.Tensor ? "" : Cell(tensor.Name), TypeOf(tensor), Markup.Escape($"[{string.Join(',', tensor.Shape)}]"), SizeText(tensor.Length));
            first = false;
        }

        if (first)
            table.AddRow(Cell(entry.Key), kind, "", "", "", "");
    }

    private static IEnumerable<StoredTensor> TensorsOf(StoredEntry entry) => entry.Kind switch
    {
        EntryKind.Value => [],
        EntryKind.Tensor => [entry.File!.Tensors[entry.Key]],
        _ => entry.File!.Tensors.Values,
    };

    private static string TypeOf(StoredTensor tensor) => SafetensorsType.NameOf(tensor.Type) ?? tensor.Type.ToString();

    /// <summary>Names are a stranger's: nothing in them is for the terminal.</summary>
    private static string Cell(string name) => Markup.Escape(new string([.. name.Select(c => char.IsControl(c) ? '?' : c)]));

    private static string Shortened(string text)
    {
        var line = new string([.. text.Take(MaxValueCharacters + 1).Select(c => char.IsControl(c) ? ' ' : c)]);
        return line.Length <= MaxValueCharacters ? line : line[..MaxValueCharacters] + "…";
    }

    private static string SizeText(long bytes) => bytes switch
    {
        >= 1 << 30 => string.Create(CultureInfo.InvariantCulture, $"{bytes / (double)(1 << 30):F2} GiB"),
        >= 1 << 20 => string.Create(CultureInfo.InvariantCulture, $"{bytes / (double)(1 << 20):F2} MiB"),
        >= 1 << 10 => string.Create(CultureInfo.InvariantCulture, $"{bytes / (double)(1 << 10):F2} KiB"),
        _ => $"{bytes} B",
    };
}
