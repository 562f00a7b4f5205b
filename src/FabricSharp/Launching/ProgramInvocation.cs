using System.Diagnostics;
using System.Reflection;
using System.Text;

namespace FabricSharp.Launching;

/// <summary>
/// How the running program was started: the executable and every argument, so that it can be started again in the same way, be it
/// <c>dotnet App.dll</c>, <c>dotnet exec</c> with host options, the program's own executable, or what <c>dotnet run</c> starts.
/// </summary>
internal sealed record ProgramInvocation(string Executable, IReadOnlyList<string> Arguments)
{
    public static ProgramInvocation Current()
    {
        var executable = Environment.ProcessPath
            ?? throw new InvalidOperationException("The path of this program's executable is not known, so it cannot be started again for the other ranks. Start every rank yourself with LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set.");
        return new ProgramInvocation(executable, OperatingSystem.IsLinux() ? LinuxArguments() : PortableArguments(executable));
    }

    public ProcessStartInfo ToStartInfo()
    {
        var info = new ProcessStartInfo(Executable) { UseShellExecute = false };
        foreach (var argument in Arguments)
            info.ArgumentList.Add(argument);
        return info;
    }

    /// <summary>The kernel keeps each argument, ended by a zero byte, as it was given: no quoting to undo.</summary>
    private static string[] LinuxArguments()
    {
        var text = Encoding.UTF8.GetString(File.ReadAllBytes("/proc/self/cmdline"));
        return text.TrimEnd('\0').Length == 0 ? [] : text[..^1].Split('\0')[1..];
    }

    private static string[] PortableArguments(string executable)
    {
        var arguments = Environment.GetCommandLineArgs();
        var isHost = Path.GetFileNameWithoutExtension(executable).Equals("dotnet", StringComparison.OrdinalIgnoreCase);
        return isHost ? [Assembly.GetEntryAssembly()!.Location, .. arguments[1..]] : arguments[1..];
    }
}
