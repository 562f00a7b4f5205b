using System.Diagnostics;
using System.Text.Json;
using FabricSharp.Checkpointing;
using FabricSharp.Interop.Posix;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Scaling;

/// <summary>
/// Saving and loading a model against the disk's sequential speed, and against TorchSharp's own <c>module.save</c> and <c>load</c>. The variants take turns;
/// medians. Peak memory is how far the process's high-water mark (VmHWM, reset before) rises above what it uses before.
/// </summary>
internal static class CheckpointBenchmark
{
    private const int Piece = 4 << 20;

    public static void Run(string folder, int megabytes, int rounds)
    {
        Directory.CreateDirectory(folder);
        using var model = Model(megabytes);
        var bytes = model.parameters().Sum(parameter => parameter.NumberOfElements * parameter.ElementSize);
        var variants = Variants(folder, model, bytes);
        var results = variants.ToDictionary(variant => variant.Name, _ => new List<(double Seconds, long Peak)>());
        foreach (var variant in variants)
            Measure(variant, bytes); // code is compiled and files exist
        for (var round = 0; round < rounds; round++)
            foreach (var variant in variants)
                results[variant.Name].Add(Measure(variant, bytes));
        Console.Error.WriteLine($"{bytes / 1e6:N0} MB in {folder}, {rounds} rounds\n{"",-34} | {"MB/s",8} {"min",8} {"max",8} | {"of the disk",11} | {"peak extra MB",13}");
        foreach (var variant in variants)
            Report(variant, bytes, results[variant.Name], Median(results[variant.Baseline]));
        Directory.Delete(folder, recursive: true);
    }

    private sealed record Variant(string Name, string Baseline, Action Work, Action? Before = null);

    private static List<Variant> Variants(string folder, nn.Module model, long bytes)
    {
        string PathOf(string name) => Path.Combine(folder, name);
        void Cold(string path)
        {
            foreach (var file in Directory.Exists(path) ? Directory.GetFiles(path) : [path])
                Process.Start("dd", $"if={file} iflag=nocache count=0 status=none").WaitForExit(); // drops it from the page cache
        }

        var state = new Dictionary<string, object?> { ["model"] = model };
        const string Write = "write", Early = "write, disk told to begin early", Read = "read", Cached = "read, cached";
        return
        [
            new(Write, Early, () => WriteRaw(PathOf("raw"), bytes, early: false)),
            new(Early, Early, () => WriteRaw(PathOf("raw"), bytes, early: true)),
            new("save", Early, () => Checkpoint.Save(PathOf("ours"), state)),
            new("module.save, then flushed", Early, () => SaveTorchSharp(model, PathOf("theirs"))),
            new(Read, Read, () => ReadRaw(PathOf("raw")), () => Cold(PathOf("raw"))),
            new("load", Read, () => Checkpoint.Load(PathOf("ours"), state), () => Cold(PathOf("ours"))),
            new("module.load", Read, () => model.load(PathOf("theirs")), () => Cold(PathOf("theirs"))),
            new(Cached, Cached, () => ReadRaw(PathOf("raw"))),
            new("load, cached", Cached, () => Checkpoint.Load(PathOf("ours"), state)),
            new("module.load, cached", Cached, () => model.load(PathOf("theirs"))),
        ];
    }

    private static Sequential Model(int megabytes) =>
        nn.Sequential(Enumerable.Range(0, Math.Max(1, megabytes * 1_000_000 / (4 * 1024 * 1025))).Select(i => ($"layer{i}", (nn.Module<Tensor, Tensor>)nn.Linear(1024, 1024))));

    private static void SaveTorchSharp(nn.Module model, string path)
    {
        model.save(path);
        using var file = new FileStream(path, FileMode.Open, FileAccess.ReadWrite);
        file.Flush(flushToDisk: true);
    }

    private static void WriteRaw(string path, long bytes, bool early)
    {
        File.Delete(path + ".old");
        if (File.Exists(path))
            File.Move(path, path + ".old"); // as a checkpoint is: the old one stays until the new one is there
        var piece = new byte[Piece];
        Random.Shared.NextBytes(piece);
        using var file = new FileStream(path, new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write, BufferSize = 0, PreallocationSize = bytes });
        for (var done = 0L; done < bytes; done += Piece)
        {
            file.Write(piece.AsSpan(0, (int)Math.Min(Piece, bytes - done)));
            if (early)
                PosixApi.BeginWriteback(file.SafeFileHandle, done, Piece);
        }

        file.Flush(flushToDisk: true);
    }

    private static void ReadRaw(string path)
    {
        using var file = File.OpenHandle(path);
        var piece = new byte[Piece];
        for (var offset = 0L; RandomAccess.Read(file, piece, offset) is > 0 and var count; offset += count)
        {
            // reading is all
        }
    }

    private static (double Seconds, long Peak) Measure(Variant variant, long bytes)
    {
        variant.Before?.Invoke();
        GC.Collect();
        GC.WaitForPendingFinalizers();
        File.WriteAllText("/proc/self/clear_refs", "5"); // the mark is what is used now
        var before = StatusOf("VmRSS");
        var start = Stopwatch.GetTimestamp();
        variant.Work();
        return (Stopwatch.GetElapsedTime(start).TotalSeconds, StatusOf("VmHWM") - before);
    }

    private static long StatusOf(string name) =>
        1024 * long.Parse(File.ReadLines("/proc/self/status").First(line => line.StartsWith(name + ":", StringComparison.Ordinal)).Split([' ', '\t'], StringSplitOptions.RemoveEmptyEntries)[1], System.Globalization.CultureInfo.InvariantCulture);

    private static double Median(List<(double Seconds, long Peak)> results) => results.Select(result => result.Seconds).Order().ElementAt(results.Count / 2);

    private static void Report(Variant variant, long bytes, List<(double Seconds, long Peak)> results, double baseline)
    {
        var (median, peak) = (Median(results), results.Max(result => result.Peak));
        double Rate(double seconds) => bytes / seconds / 1e6;
        var (slowest, fastest) = (Rate(results.Max(r => r.Seconds)), Rate(results.Min(r => r.Seconds)));
        Console.Error.WriteLine($"{variant.Name,-34} | {Rate(median),8:N0} {slowest,8:N0} {fastest,8:N0} | {baseline / median,11:P0} | {peak / 1e6,13:N1}");
        Console.WriteLine(JsonSerializer.Serialize(new { benchmark = "checkpoint", variant = variant.Name, bytes, seconds = median, mbps = Rate(median), min_mbps = slowest, max_mbps = fastest, of_disk = baseline / median, peak_extra_bytes = peak }));
    }
}
