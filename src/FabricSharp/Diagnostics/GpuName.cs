namespace FabricSharp.Diagnostics;

/// <summary>What NVIDIA's kernel driver calls the GPUs of this machine; TorchSharp does not tell.</summary>
internal static class GpuName
{
    private const string Label = "Model:";

    /// <param name="folder">The driver's folder, with a folder for each GPU.</param>
    /// <returns>The name when all GPUs have the same; else null, because which one is used is not known here.</returns>
    public static string? Read(string folder)
    {
        try
        {
            var names = Directory.EnumerateDirectories(folder).SelectMany(gpu => File.ReadLines(Path.Combine(gpu, "information")))
                .Where(line => line.StartsWith(Label, StringComparison.Ordinal)).Select(line => line[Label.Length..].Trim()).Distinct().ToList();
            return names.Count == 1 ? names[0] : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
