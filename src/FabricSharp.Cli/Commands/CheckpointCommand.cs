using System.CommandLine;
using FabricSharp.Checkpointing;

namespace FabricSharp.Cli.Commands;

/// <summary><c>fabric checkpoint</c>: looks at, checks and converts checkpoints. Nothing that a file asks for is ever executed, and no libtorch is needed.</summary>
internal static class CheckpointCommand
{
    private const int Failed = 1;
    private const int Misused = 2;

    public static Command Create() => new("checkpoint", "Look at, check and convert checkpoints: folders of Fabric, .safetensors files, and .pt, .pth, .ckpt files of PyTorch and Lightning.")
    {
        CheckpointInspectCommand.Create(), CheckpointVerifyCommand.Create(), CheckpointConvertCommand.Create(),
    };

    public static Argument<string> PathArgument() => new("PATH") { Description = "A checkpoint folder, a .safetensors file, or a .pt, .pth or .ckpt file." };

    /// <summary>Exit code 1 for what is wrong with a checkpoint, 2 for what is wrong with the command.</summary>
    public static int Run(string name, Func<int> action)
    {
        try
        {
            return action();
        }
        catch (Exception e) when (e is CheckpointException or ArgumentException or IOException or UnauthorizedAccessException)
        {
            Console.Error.WriteLine($"fabric checkpoint {name}: {MessageOf(e)}");
            return e is ArgumentException ? Misused : Failed;
        }
    }

    /// <summary>Without .NET's " (Parameter 'x')", which says nothing on a command line.</summary>
    private static string MessageOf(Exception e) => e is ArgumentException { ParamName: { } name } ? e.Message.Replace($" (Parameter '{name}')", "", StringComparison.Ordinal) : e.Message;
}
