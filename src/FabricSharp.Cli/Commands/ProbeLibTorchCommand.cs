using System.CommandLine;
using System.Text.Json;
using FabricSharp.Cli.Checks;

namespace FabricSharp.Cli.Commands;

/// <summary>What <c>fabric doctor</c> starts to try a libtorch, hidden: one finding per line, as JSON.</summary>
internal static class ProbeLibTorchCommand
{
    public static Command Create()
    {
        var command = new Command(LibTorchProbe.Command) { Hidden = true };
        command.SetAction(_ =>
        {
            foreach (var finding in LibTorchProbe.Look())
                Console.WriteLine(JsonSerializer.Serialize(finding));
        });
        return command;
    }
}
