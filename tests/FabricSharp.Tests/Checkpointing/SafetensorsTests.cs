using System.Buffers.Binary;
using System.Text;
using System.Text.Json;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Checkpointing;

public class SafetensorsTests
{
    public static TheoryData<ScalarType, string> Types => new()
    {
        { ScalarType.Float64, "F64" }, { ScalarType.Float32, "F32" }, { ScalarType.Float16, "F16" }, { ScalarType.BFloat16, "BF16" }, { ScalarType.Int64, "I64" },
        { ScalarType.Int32, "I32" }, { ScalarType.Int16, "I16" }, { ScalarType.Int8, "I8" }, { ScalarType.Byte, "U8" }, { ScalarType.Bool, "BOOL" },
    };

    [Theory]
    [MemberData(nameof(Types))]
    public void SaveThenLoad_EachType_GivesTheSameBits(ScalarType type, string name)
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        var matrix = (rand(3, 5) * 100).to(type);
        var state = new Dictionary<string, object?>
        {
            ["matrix"] = matrix, ["transposed"] = matrix.t(), ["scalar"] = matrix[1, 2].clone(), ["empty"] = empty([0, 4], type), ["every second"] = matrix[TensorIndex.Colon, TensorIndex.Slice(0, null, 2)],
        };
        fabric.Save(folder["c"], state);
        var loaded = fabric.Load(folder["c"]);
        foreach (var (key, value) in state)
            Assert.Equal(Checkpoints.Fingerprint((Tensor)value!), Checkpoints.Fingerprint((Tensor)loaded[key]!));
        Assert.Contains($"\"{name}\"", Encoding.UTF8.GetString(File.ReadAllBytes(folder["c/tensors.safetensors"])));
    }

    [Fact]
    public void Save_TwoTensors_WritesThePublicFormatByteForByte()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        fabric.Save(folder["c"], new() { ["small"] = tensor(new byte[] { 7, 8, 9 }), ["wide"] = tensor(new[] { 1.5f, -2f }) });
        var file = File.ReadAllBytes(folder["c/tensors.safetensors"]);
        var length = (int)BinaryPrimitives.ReadInt64LittleEndian(file);
        Assert.Equal(0, length % 8);
        using var header = JsonDocument.Parse(file.AsMemory(8, length));
        Assert.Equal("""{"dtype":"F32","shape":[2],"data_offsets":[0,8]}""", header.RootElement.GetProperty("wide").GetRawText());
        Assert.Equal("""{"dtype":"U8","shape":[3],"data_offsets":[8,11]}""", header.RootElement.GetProperty("small").GetRawText());
        Assert.Equal("pt", header.RootElement.GetProperty("__metadata__").GetProperty("format").GetString());
        Assert.Equal("0000C03F000000C0070809", Convert.ToHexString(file.AsSpan(8 + length)));
    }

    [Fact]
    public void Load_BareFileOfAnotherWriter_GivesItsTensors()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        File.WriteAllBytes(folder["m.safetensors"], Checkpoints.RawFile("""{"é.x":{"data_offsets":[2,6],"shape":[2,2],"dtype":"U8"},"b":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}   """, 6));
        var loaded = fabric.Load(folder["m.safetensors"]);
        Assert.Equal("Byte[2,2] 01010101", Checkpoints.Fingerprint((Tensor)loaded["é.x"]!));
        Assert.Equal("Bool[2] 0101", Checkpoints.Fingerprint((Tensor)loaded["b"]!));
    }

    public static TheoryData<string, int, string> BadHeaders => new()
    {
        { """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", 4, "truncated" },
        { """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", 12, "end at byte" },
        { """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}""", 4, "cannot have 4 bytes" },
        { """{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}""", 8, "leaves a gap" },
        { """{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}""", 6, "overlaps" },
        { """{"a":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}}""", 4, "'a' lies at bytes 4 to 0" },
        { """{"a":{"dtype":"U8","shape":[4],"data_offsets":[-4,0]}}""", 4, "'a' lies at bytes -4 to 0" },
        { """{"a":{"dtype":"U8","shape":[4],"data_offsets":[0]}}""", 4, "1 data_offsets" },
        { """{"a":{"dtype":"U8","shape":[-1,-4],"data_offsets":[0,4]}}""", 4, "[-1,-4]" },
        { """{"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}}""", 0, "larger than any memory" },
        { """{"a":{"dtype":"U8","shape":[0,4294967296,4294967296],"data_offsets":[0,0]}}""", 0, "larger than any memory" },
        { """{"a":{"dtype":"U8","shape":[1.5],"data_offsets":[0,1]}}""", 1, "no valid safetensors" },
        { """{"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}""", 1, "'F8_E4M3'" },
        { """{"a":{"shape":[1],"data_offsets":[0,1]}}""", 1, "no valid safetensors" },
        { """{"a":7}""", 0, "no valid safetensors" },
        { """["a"]""", 0, "no valid safetensors" },
        { """{"__metadata__":{"x":1}}""", 0, "no valid safetensors" },
        { """{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}""", 0, "no valid safetensors" },
        { """{"a":{"dtype":"U8","shape":[[[[[[[[[[]]]]]]]]]],"data_offsets":[0,0]}}""", 0, "no valid safetensors" },
        { "{\"\\ud800\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, "no valid safetensors" },
    };

    [Theory]
    [MemberData(nameof(BadHeaders))]
    public void Load_BareFileWithABadHeader_NamesFileAndReason(string json, int dataBytes, string reason)
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        File.WriteAllBytes(folder["m.safetensors"], Checkpoints.RawFile(json, dataBytes));
        var error = Checkpoints.Fails(() => fabric.Load(folder["m.safetensors"]));
        Assert.Contains(folder["m.safetensors"], error.Message);
        Assert.Contains(reason, error.Message);
    }

    [Theory]
    [InlineData(3)]
    [InlineData(1_000)]
    [InlineData(100_000_001)]
    [InlineData(ulong.MaxValue)]
    public void Load_HeaderLengthBeyondTheFile_IsRefusedBeforeMemoryIsTaken(ulong length)
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        File.WriteAllBytes(folder["m.safetensors"], Checkpoints.RawFile("{}  ", 0, length));
        Assert.Contains("safetensors file", Checkpoints.Fails(() => fabric.Load(folder["m.safetensors"])).Message);
    }

    [Fact]
    public void Load_EmptyFile_IsRefused()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        File.WriteAllBytes(folder["m.safetensors"], []);
        Assert.Contains("it has 0 bytes", Checkpoints.Fails(() => fabric.Load(folder["m.safetensors"])).Message);
    }

    [Fact]
    public void Load_TruthValueOfTwo_IsRefused()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        var file = Checkpoints.RawFile("""{"b":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}""", 2);
        file[^1] = 2;
        File.WriteAllBytes(folder["m.safetensors"], file);
        Assert.Contains("other than 0 and 1", Checkpoints.Fails(() => fabric.Load(folder["m.safetensors"])).Message);
    }

    [Theory]
    [InlineData(0x80)] // begins like a pickle
    [InlineData(0x280)] // begins like a pickle of protocol 2
    [InlineData(0x4b50)] // begins with PK, as a zip file does
    public void Load_HeaderLengthThatLooksLikeAnotherFormat_IsReadAsSafetensors(int length)
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        File.WriteAllBytes(folder["m.safetensors"], Checkpoints.RawFile("""{"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}""".PadRight(length), 2));
        Assert.Equal("Byte[2] 0101", Checkpoints.Fingerprint((Tensor)fabric.Load(folder["m.safetensors"])["b"]!));
    }
}
