using System.Diagnostics;
using System.Runtime.InteropServices;

namespace FabricSharp.Cli.Checks;

/// <summary>The libtorch that a program brings (the tool has none), to be loaded by another process of the tool.</summary>
/// <param name="Folder">Where it lies.</param>
/// <param name="Folders">Where the program's native libraries may lie: beside it and under runtimes.</param>
internal sealed record ProgramLibTorch(string Folder, IReadOnlyList<string> Folders)
{
    /// <summary>libtorch itself. TorchSharp's own library beside it is in every build, with or without.</summary>
    public static string LibraryName => OperatingSystem.IsWindows() ? "torch_cpu.dll" : OperatingSystem.IsMacOS() ? "libtorch_cpu.dylib" : "libtorch_cpu.so";

    /// <param name="program">A .dll, an executable or a folder.</param>
    /// <returns>Null where there is none.</returns>
    public static ProgramLibTorch? Find(string program)
    {
        var beside = Path.GetFullPath(Directory.Exists(program) ? program : Path.GetDirectoryName(Path.GetFullPath(program))!);
        string[] folders = [beside, Path.Combine(beside, "runtimes", RuntimeInformation.RuntimeIdentifier, "native")];
        return folders.FirstOrDefault(folder => File.Exists(Path.Combine(folder, LibraryName))) is { } found ? new ProgramLibTorch(found, folders) : null;
    }

    /// <summary>The tool once more, so that it finds this libtorch.</summary>
    public ProcessStartInfo StartTool(params string[] arguments)
    {
        var info = new ProcessStartInfo(Environment.ProcessPath ?? "fabric") { UseShellExecute = false };
        if (Path.GetFileNameWithoutExtension(info.FileName).Equals("dotnet", StringComparison.OrdinalIgnoreCase))
            info.ArgumentList.Add(Path.Combine(AppContext.BaseDirectory, "fabric.dll"));
        foreach (var argument in arguments)
            info.ArgumentList.Add(argument);
        foreach (var variable in new[] { "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PATH" })
            info.Environment[variable] = string.Join(Path.PathSeparator, Folders.Append(Environment.GetEnvironmentVariable(variable)).Where(part => !string.IsNullOrEmpty(part)));
        return info;
    }
}
