using System.Runtime.InteropServices;
using System.Text.Json;
using static TorchSharp.torch;

namespace FabricSharp.Scaling;

/// <summary>What a result has to state.</summary>
internal static class Machine
{
    public static void Print() => Console.WriteLine(JsonSerializer.Serialize(new
    {
        date = TimeProvider.System.GetUtcNow().ToString("yyyy-MM-dd", System.Globalization.CultureInfo.InvariantCulture),
        processor = Processor(),
        cores = Environment.ProcessorCount,
        memory_gib = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes >> 30,
        system = RuntimeInformation.OSDescription,
        runtime = RuntimeInformation.FrameworkDescription,
        torchsharp = typeof(TorchSharp.torch).Assembly.GetName().Version!.ToString(3),
        libtorch = __version__,
        load_average = File.Exists("/proc/loadavg") ? File.ReadAllText("/proc/loadavg").Split(' ')[0] : null,
    }));

    private static string Processor() => File.Exists("/proc/cpuinfo")
        ? File.ReadLines("/proc/cpuinfo").First(line => line.StartsWith("model name", StringComparison.Ordinal)).Split(':')[1].Trim()
        : RuntimeInformation.ProcessArchitecture.ToString();
}
