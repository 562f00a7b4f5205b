using System.ComponentModel;
using System.Diagnostics;
using System.Text.Json;
using FabricSharp.Interop.LibTorch;
using TorchSharp;

namespace FabricSharp.Cli.Checks;

/// <summary>
/// Tries the libtorch that a program brings (the tool has none): in a process of its own, because a library that does not fit may end it.
/// </summary>
internal static class LibTorchProbe
{
    /// <summary>The hidden command by which the tool starts itself.</summary>
    public const string Command = "probe-libtorch";

    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    /// <param name="program">What the user named; null: nothing, then the current folder is looked at.</param>
    public static IReadOnlyList<Finding> Run(string? program)
    {
        if (ProgramLibTorch.Find(program ?? ".") is { } found)
            return RunApart(found);
        return program is null
            ? [new("libtorch", false, "no program was named, so its libtorch was not tried.", "Name one: fabric doctor bin/Release/net10.0/App.dll.", IsNeeded: false)]
            : [new("libtorch", false, $"{ProgramLibTorch.LibraryName} lies neither beside {program} nor in its runtimes folder.", "Build the program with a package of TorchSharp for this machine: dotnet add package TorchSharp-cpu.")];
    }

    /// <summary>In the process that <see cref="RunApart"/> started.</summary>
    public static IEnumerable<Finding> Look()
    {
        yield return new("libtorch", true, $"{torch.__version__}, loaded by TorchSharp {typeof(torch).Assembly.GetName().Version?.ToString(3)}.");
        yield return GradientHooks.IsSupported
            ? new("gradient hooks", true, "the self-test passed: gradients are averaged while the backward pass runs.", IsNeeded: false)
            : new("gradient hooks", false, $"{GradientHooks.NotSupportedReason}.", "Gradients are averaged when Backward returns, without overlap: use TorchSharp 0.107 on 64-bit Linux for more.", IsNeeded: false);
        yield return CpuAllocator.IsSupported
            ? new("allocator", true, "the self-test passed: large gradients are averaged without being copied.", IsNeeded: false)
            : new("allocator", false, $"{CpuAllocator.NotSupportedReason}.", "Large gradients are copied once more: use TorchSharp 0.107 on 64-bit Linux for more.", IsNeeded: false);
    }

    private static List<Finding> RunApart(ProgramLibTorch found)
    {
        var info = found.StartTool(Command);
        info.RedirectStandardOutput = info.RedirectStandardError = true;
        try
        {
            return Read(info, found.Folder);
        }
        catch (Win32Exception e)
        {
            return [new("libtorch", false, $"{info.FileName} could not be started: {e.Message}", "Reinstall the tool: dotnet tool update --global FabricSharp.Cli.")];
        }
    }

    private static List<Finding> Read(ProcessStartInfo info, string folder)
    {
        using var process = Process.Start(info)!;
        var error = process.StandardError.ReadToEndAsync();
        var output = process.StandardOutput.ReadToEndAsync();
        if (!process.WaitForExit(Limit))
            process.Kill(entireProcessTree: true);
        process.WaitForExit();
        var findings = output.Result.Split('\n', StringSplitOptions.RemoveEmptyEntries).Where(line => line.StartsWith('{')).Select(line => JsonSerializer.Deserialize<Finding>(line)!).ToList();
        if (process.ExitCode == 0 && findings.Count > 0)
            return [findings[0] with { Found = $"{findings[0].Found[..^1]} from {folder}." }, .. findings[1..]];
        var reason = error.Result.Split('\n').FirstOrDefault(line => line.Contains("GLIBCXX", StringComparison.Ordinal) || line.Contains("Exception", StringComparison.Ordinal)) ?? $"exit code {process.ExitCode}";
        return [new("libtorch", false, $"that of {folder} does not load: {reason.Trim()}", "Build the program anew with the FabricSharp package, which makes TorchSharp load on older systems, and with one TorchSharp package for this machine.")];
    }
}
