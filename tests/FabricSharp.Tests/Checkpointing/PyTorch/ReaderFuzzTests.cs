using System.Diagnostics;
using FabricSharp.Checkpointing;
using FabricSharp.Checkpointing.PyTorch;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Checkpointing.PyTorch;

/// <summary>
/// Mutated files for every reader. Each is refused with the exception that the reader documents, or read; nothing else comes out, nothing
/// takes long or much memory. <c>FABRIC_FUZZ_INPUTS=1000000</c> gives each reader that many inputs instead of a few seconds' worth, and
/// <c>FABRIC_FUZZ_SEED</c> another seed.
/// </summary>
public class ReaderFuzzTests
{
    private const string InputsVariable = "FABRIC_FUZZ_INPUTS";
    private const int ShortInputs = 4_000;
    private const long MaxAllocated = 512 << 20;

    private static readonly TimeSpan MaxTime = TimeSpan.FromSeconds(10);

    private static int Inputs => int.TryParse(Environment.GetEnvironmentVariable(InputsVariable), out var inputs) ? inputs : ShortInputs;

    private static int Seed => int.TryParse(Environment.GetEnvironmentVariable("FABRIC_FUZZ_SEED"), out var seed) ? seed : 1;

    [Fact]
    public void Pickles_Mutated_GiveValuesOrFormatExceptions()
    {
        object Storage(object? reference) => reference is PickleTuple { Items: ["storage", PickleGlobal { Element: { } element }, string key, string, long and >= 0 and < 100 and var count, ..] }
            ? new TorchStorage(key, element, count)
            : throw new FormatException("no storage");
        Fuzz([.. Zips().Select(PickleOf)], bytes => new PickledJson().Convert(new PickleMachine(new PickleSource(bytes), Storage).Run()), e => e is FormatException);
    }

    [Fact]
    public void ZipFiles_Mutated_AreReadOrRefused() => FuzzFiles([.. Zips().Select(WithoutChecksums)], "m.pt");

    [Fact]
    public void LegacyFiles_Mutated_AreReadOrRefused() => FuzzFiles([.. TorchFiles.Names.Where(name => name.StartsWith("legacy", StringComparison.Ordinal)).Select(name => File.ReadAllBytes(TorchFiles.PathOf(name)))], "m.pt");

    [Fact]
    public void SafetensorsFiles_Mutated_AreReadOrRefused()
    {
        using var folder = new TemporaryFolder();
        foreach (var name in new[] { "state_dict.pt", "looks.pt" })
            CheckpointConverter.Convert(TorchFiles.PathOf(name), folder[name + ".safetensors"], new ConversionOptions());
        FuzzFiles([.. Directory.EnumerateFiles(folder.Path).Order().Select(File.ReadAllBytes)], "m.safetensors");
    }

    [Fact]
    public void Manifests_Mutated_AreReadOrRefused()
    {
        var manifest = CheckpointManifest.Write([new ManifestFile("state.json", 12, new string('a', 64)), new ManifestFile("model.safetensors", 1L << 40, new string('0', 64))]);
        Fuzz([manifest], bytes => CheckpointManifest.Parse(bytes, "manifest.json"), e => e is CheckpointException);
    }

    [Fact]
    public void States_Mutated_AreReadOrRefused()
    {
        using var folder = new TemporaryFolder();
        CheckpointConverter.Convert(TorchFiles.PathOf("lightning.ckpt"), folder["c"], new ConversionOptions());
        var files = Directory.EnumerateFiles(folder["c"]).Where(path => !path.EndsWith("manifest.json", StringComparison.Ordinal)).ToDictionary(path => Path.GetFileName(path), File.ReadAllBytes);
        Fuzz([files["state.json"]], bytes =>
        {
            File.WriteAllBytes(folder["c/state.json"], bytes);
            var listed = files.Select(file => file.Key == "state.json" ? Listed(file.Key, bytes) : Listed(file.Key, file.Value));
            File.WriteAllBytes(folder["c/manifest.json"], CheckpointManifest.Write([.. listed]));
            CheckpointReader.Open(folder["c"]).Dispose();
        }, e => e is CheckpointException, share: 4);
    }

    private static ManifestFile Listed(string name, byte[] bytes) => new(name, bytes.Length, Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(bytes)));

    private static IEnumerable<byte[]> Zips() => TorchFiles.Names.Where(name => !name.StartsWith("legacy", StringComparison.Ordinal)).Select(name => File.ReadAllBytes(TorchFiles.PathOf(name)));

    private static byte[] PickleOf(byte[] zip)
    {
        using var folder = new TemporaryFolder();
        File.WriteAllBytes(folder["m.pt"], zip);
        using var handle = File.OpenHandle(folder["m.pt"]);
        var entry = ZipDirectory.Read(handle, "m.pt").Values.Single(entry => entry.Name.EndsWith("/data.pkl", StringComparison.Ordinal));
        return zip.AsSpan((int)entry.Offset, (int)entry.Length).ToArray();
    }

    /// <summary>Else nearly every change would end at the checksums.</summary>
    private static byte[] WithoutChecksums(byte[] zip)
    {
        for (var at = zip.AsSpan().IndexOf("PK\u0001\u0002"u8); at >= 0;)
        {
            zip.AsSpan(at + 16, 4).Clear();
            var next = zip.AsSpan(at + 4).IndexOf("PK\u0001\u0002"u8);
            at = next < 0 ? -1 : at + 4 + next;
        }

        return zip;
    }

    private static void FuzzFiles(IReadOnlyList<byte[]> originals, string name)
    {
        using var folder = new TemporaryFolder();
        var buffer = 0;
        Fuzz(originals, bytes =>
        {
            File.WriteAllBytes(folder[name], bytes);
            using var reader = CheckpointReader.Open(folder[name]);
            if (++buffer % 8 != 0)
                return;
            using var scope = NewDisposeScope();
            foreach (var entry in reader.Entries.Values)
                entry.Materialise();
        }, e => e is CheckpointException, share: 2);
    }

    private static void Fuzz(IReadOnlyList<byte[]> originals, Action<byte[]> read, Func<Exception, bool> isDocumented, int share = 1)
    {
        var random = new Random(Seed);
        var (inputs, accepted) = (Environment.GetEnvironmentVariable(InputsVariable) is null ? Inputs / share : Inputs, 0);
        var total = Stopwatch.StartNew();
        for (var i = 0; i < inputs; i++)
        {
            var input = Mutate(originals, random);
            var (before, watch) = (GC.GetAllocatedBytesForCurrentThread(), Stopwatch.StartNew());
            try
            {
                read(input);
                accepted++;
            }
            catch (Exception e) when (isDocumented(e))
            {
            }
            catch (Exception e)
            {
                Assert.Fail($"Input {i} of seed {Seed} gave {e}\n{Convert.ToHexString(input)}");
            }

            Assert.True(watch.Elapsed < MaxTime, $"Input {i} of seed {Seed} took {watch.Elapsed}.\n{Convert.ToHexString(input)}");
            Assert.True(GC.GetAllocatedBytesForCurrentThread() - before < MaxAllocated, $"Input {i} of seed {Seed} took {GC.GetAllocatedBytesForCurrentThread() - before} bytes.\n{Convert.ToHexString(input)}");
        }

        TestContext.Current.SendDiagnosticMessage($"{inputs} inputs in {total.Elapsed.TotalSeconds:F1} s, {accepted} of them read");
        if (Environment.GetEnvironmentVariable("FABRIC_FUZZ_LOG") is { } log)
            File.AppendAllText(log, $"{TestContext.Current.TestMethod?.MethodName}: {inputs} inputs of seed {Seed} in {total.Elapsed.TotalSeconds:F1} s, {accepted} of them read\n");
    }

    /// <summary>One to four changes: bits, bytes, numbers at the edge, parts cut out, doubled, moved, or taken from another file.</summary>
    private static byte[] Mutate(IReadOnlyList<byte[]> originals, Random random)
    {
        var bytes = new List<byte>(originals[random.Next(originals.Count)]);
        for (var changes = random.Next(1, 5); changes > 0 && bytes.Count > 0; changes--)
        {
            var at = random.Next(bytes.Count);
            var length = Math.Min(random.Next(1, 1 << random.Next(1, 8)), bytes.Count - at);
            switch (random.Next(9))
            {
                case 0: bytes[at] ^= (byte)(1 << random.Next(8)); break;
                case 1: bytes[at] = (byte)random.Next(256); break;
                case 2: bytes[at] = Edges[random.Next(Edges.Length)]; break;
                case 3: bytes.RemoveRange(at, length); break;
                case 4: bytes.RemoveRange(at, bytes.Count - at); break;
                case 5: bytes.InsertRange(random.Next(bytes.Count), bytes.GetRange(at, length)); break;
                case 6: Fill(bytes, at, Math.Min(length, 8), Edges[random.Next(Edges.Length)]); break;
                case 7: bytes.InsertRange(at, [.. Enumerable.Range(0, length).Select(_ => Instructions[random.Next(Instructions.Length)])]); break;
                default: Splice(bytes, at, originals[random.Next(originals.Count)], random); break;
            }
        }

        return [.. bytes];
    }

    private static readonly byte[] Edges = [0, 1, 0x7f, 0x80, 0xff];

    private static readonly byte[] Instructions = [.. "(.012BCGJKMNQRTUX]abcdehjlqrstu})"u8, 0x80, 0x81, 0x85, 0x86, 0x87, 0x88, 0x8a, 0x8b, 0x8c, 0x8f, 0x90, 0x91, 0x93, 0x94, 0x95, 0x96];

    private static void Fill(List<byte> bytes, int at, int length, byte value)
    {
        for (var i = 0; i < length; i++)
            bytes[at + i] = value;
    }

    private static void Splice(List<byte> bytes, int at, byte[] other, Random random)
    {
        var from = random.Next(other.Length);
        var length = Math.Min(random.Next(1, 200), other.Length - from);
        bytes.InsertRange(at, other.AsSpan(from, length).ToArray());
    }
}
