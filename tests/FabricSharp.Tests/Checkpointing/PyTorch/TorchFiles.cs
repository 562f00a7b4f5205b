using System.Diagnostics;
using System.Text;
using System.Text.Json;
using FabricSharp.Checkpointing.PyTorch;

namespace FabricSharp.Tests.Checkpointing.PyTorch;

/// <summary>
/// The files that make_torch_files.py made, and what is needed to make broken and malicious ones by hand.
/// </summary>
internal static class TorchFiles
{
    public static string Folder { get; } = Path.Combine(AppContext.BaseDirectory, "Checkpointing", "PyTorch");

    public static IEnumerable<string> Names => Directory.EnumerateFiles(Path.Combine(Folder, "Files"), "*.json").Select(path => Path.GetFileNameWithoutExtension(path)).Order();

    public static string PathOf(string name) => Path.Combine(Folder, "Files", name);

    public static JsonElement ExpectedOf(string name)
    {
        using var document = JsonDocument.Parse(File.ReadAllBytes(PathOf(name + ".json")));
        return document.RootElement.Clone();
    }

    /// <summary>Instructions of a pickle: texts are bytes of Latin-1, so that instructions can be written as they are.</summary>
    public static byte[] Pickle(string instructions) => Encoding.Latin1.GetBytes("\u0080\u0002" + instructions + ".");

    /// <summary>A text as an instruction.</summary>
    public static string Text(string text) => "X" + Encoding.Latin1.GetString(BitConverter.GetBytes(Encoding.UTF8.GetByteCount(text))) + Encoding.Latin1.GetString(Encoding.UTF8.GetBytes(text));

    /// <summary>An integer as an instruction.</summary>
    public static string Integer(long number) => "\u008a\u0008" + Encoding.Latin1.GetString(BitConverter.GetBytes(number));

    /// <summary>A tensor of floats as torch saves it.</summary>
    public static string Tensor(string key, long count, string offset, string shape, string strides, string storage = "FloatStorage") =>
        $"ctorch._utils\n_rebuild_tensor_v2\n(({Text("storage")}ctorch\n{storage}\n{Text(key)}{Text("cpu")}{Integer(count)}tQ{offset}{shape}{strides}\u0089ccollections\nOrderedDict\n)RtR";

    public static string Tuple(params long[] numbers) => "(" + string.Concat(numbers.Select(Integer)) + "t";

    /// <summary>A zip file of torch with this pickle and these storages.</summary>
    public static byte[] Zip(byte[] pickle, params (string Key, byte[] Bytes)[] storages) =>
        ZipOf([("m/data.pkl", pickle), ("m/byteorder", "little"u8.ToArray()), .. storages.Select(storage => ($"m/data/{storage.Key}", storage.Bytes)), ("m/version", "3\n"u8.ToArray())]);

    public static byte[] ZipOf(params (string Name, byte[] Bytes)[] files) => ZipOf(files, method: 0);

    /// <param name="files">Their names are written as they are.</param>
    /// <param name="method">0 for files that are not compressed.</param>
    /// <param name="crc">Null for the right ones.</param>
    /// <param name="claimed">The sizes that the directory claims; null for the right ones.</param>
    /// <param name="at">Where the directory says that all files begin; null for the right places.</param>
    public static byte[] ZipOf((string Name, byte[] Bytes)[] files, int method, uint? crc = null, uint? claimed = null, uint? at = null)
    {
        var (data, directory) = (new MemoryStream(), new MemoryStream());
        using var local = new BinaryWriter(data);
        using var central = new BinaryWriter(directory);
        foreach (var (name, bytes) in files)
        {
            var sum = crc ?? Crc32.Append(0, bytes);
            central.Write(0x02014b50);
            central.Write([20, 0, 20, 0, 0, 8, (byte)method, 0, 0, 0, 0, 0]);
            WriteSizes(central, sum, claimed ?? (uint)bytes.Length, name);
            central.Write(new byte[10]);
            central.Write(at ?? (uint)data.Length);
            central.Write(Encoding.UTF8.GetBytes(name));
            local.Write(0x04034b50);
            local.Write([20, 0, 0, 8, (byte)method, 0, 0, 0, 0, 0]);
            WriteSizes(local, sum, claimed ?? (uint)bytes.Length, name);
            local.Write(Encoding.UTF8.GetBytes(name));
            local.Write(bytes);
        }

        var start = (uint)data.Length;
        local.Write(directory.ToArray());
        local.Write(0x06054b50);
        local.Write(0);
        local.Write((ushort)files.Length);
        local.Write((ushort)files.Length);
        local.Write((uint)directory.Length);
        local.Write(start);
        local.Write((ushort)0);
        return data.ToArray();
    }

    /// <summary>Runs Python; null and the reason where it cannot.</summary>
    public static (string? Output, string Reason) Python(params string[] arguments)
    {
        var info = new ProcessStartInfo("python3", arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        try
        {
            using var process = Process.Start(info)!;
            var error = process.StandardError.ReadToEndAsync();
            var output = process.StandardOutput.ReadToEnd();
            if (!process.WaitForExit(TimeSpan.FromSeconds(100)))
                process.Kill(entireProcessTree: true);
            return process.ExitCode == 0 ? (output, "") : (null, $"python3 ended with {process.ExitCode}: {error.Result}");
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            return (null, $"python3 could not be started: {e.Message}");
        }
    }

    public static void RequirePython()
    {
        if (Python("-c", "").Output is null)
            Assert.Skip("There is no python3 here.");
    }

    private static void WriteSizes(BinaryWriter writer, uint crc, uint size, string name)
    {
        writer.Write(crc);
        writer.Write(size);
        writer.Write(size);
        writer.Write((ushort)Encoding.UTF8.GetByteCount(name));
        writer.Write((ushort)0);
    }
}
