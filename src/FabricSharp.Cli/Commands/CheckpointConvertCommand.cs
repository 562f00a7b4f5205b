using System.CommandLine;
using FabricSharp.Checkpointing;

namespace FabricSharp.Cli.Commands;

/// <summary><c>fabric checkpoint convert</c>: from any kind that is read to a <c>.safetensors</c> file or a folder.</summary>
internal static class CheckpointConvertCommand
{
    public static Command Create()
    {
        var source = new Argument<string>("IN") { Description = "A checkpoint folder, a .safetensors file, or a .pt, .pth or .ckpt file." };
        var target = new Argument<string>("OUT") { Description = "A name that ends with .safetensors, which Python reads too, or the name of a folder." };
        var key = new Option<string?>("--key") { Description = "The entry to take, such as state_dict; all that the target can hold, or the only module, when not given. For a file with one module into a folder: the name that it gets there (model)." };
        var strip = new Option<string?>("--strip-prefix") { Description = "Take this off the names of tensors that begin with it." };
        var prefix = new Option<string?>("--prefix") { Description = "Put this in front of the names of tensors." };
        var force = new Option<bool>("--force") { Description = "Replace OUT when it exists." };
        var command = new Command("convert", "Convert a checkpoint. Pickles are read, not written: Python reads .safetensors.\n\nExamples:\n  fabric checkpoint convert model.pt model.safetensors\n  fabric checkpoint convert epoch=3.ckpt model.safetensors --key state_dict --strip-prefix model.\n  fabric checkpoint convert checkpoint model.safetensors --key model")
        {
            source, target, key, strip, prefix, force,
        };
        command.SetAction(result => CheckpointCommand.Run("convert", () => Run(
            result.GetValue(source)!, result.GetValue(target)!, new ConversionOptions(result.GetValue(key), result.GetValue(strip), result.GetValue(prefix), result.GetValue(force)))));
        return command;
    }

    private static int Run(string source, string target, ConversionOptions options)
    {
        var result = CheckpointConverter.Convert(source, target, options);
        Console.WriteLine($"'{target}': {result.Tensors} tensors, {result.Bytes} bytes.");
        foreach (var entry in result.LeftOut)
            Console.WriteLine($"left out: {entry}.");
        return 0;
    }
}
