using System.CommandLine;
using FabricSharp.Checkpointing;

namespace FabricSharp.Cli.Commands;

/// <summary><c>fabric checkpoint verify</c>: whether a checkpoint is complete and as it was saved.</summary>
internal static class CheckpointVerifyCommand
{
    public static Command Create()
    {
        var path = CheckpointCommand.PathArgument();
        var command = new Command("verify", "Check a checkpoint: sizes, headers, and the checksums of folders and zip files. Exit code 1 when something is wrong.\n\nExample: fabric checkpoint verify checkpoint") { path };
        command.SetAction(result => CheckpointCommand.Run("verify", () => Run(result.GetValue(path)!)));
        return command;
    }

    private static int Run(string path)
    {
        using var reader = CheckpointReader.Open(path);
        var tensors = reader.Entries.Values.Sum(entry => entry.Kind == EntryKind.Value ? 0 : entry.Kind == EntryKind.Tensor ? 1 : entry.File!.Tensors.Count);
        Console.WriteLine($"'{reader.Path}' is sound: {reader.Format}, {reader.Entries.Count} entries, {tensors} tensors.{(reader.HasCheckSums ? "" : " (Its format has no checksums: sizes and header were checked.)")}");
        return 0;
    }
}
