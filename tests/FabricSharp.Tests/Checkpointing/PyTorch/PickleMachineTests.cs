using System.Diagnostics;
using System.Text;
using FabricSharp.Checkpointing;
using FabricSharp.Checkpointing.PyTorch;

namespace FabricSharp.Tests.Checkpointing.PyTorch;

/// <summary>Pickles that would do harm elsewhere, or that are broken: each is refused, with its reason, within bounds.</summary>
public class PickleMachineTests
{
    private static readonly string Marker = Path.Combine(Path.GetTempPath(), $"fabric-pickle-{Guid.NewGuid():N}");

    public static TheoryData<string, string> Calls => new()
    {
        { $"cos\nsystem\n({TorchFiles.Text($"touch {Marker}")}tR", "os.system" },
        { $"cposix\nsystem\n({TorchFiles.Text($"touch {Marker}")}tR", "posix.system" },
        { $"c__builtin__\neval\n({TorchFiles.Text("1+1")}tR", "builtins.eval" },
        { $"cbuiltins\nexec\n({TorchFiles.Text("1+1")}tR", "builtins.exec" },
        { $"cbuiltins\ngetattr\n(cos\nsystem\n{TorchFiles.Text("x")}tR", "builtins.getattr" },
        { $"{TorchFiles.Text("subprocess")}{TorchFiles.Text("Popen")}\u0093({TorchFiles.Text("x")}tR", "subprocess.Popen" },
        { "cargparse\nNamespace\n)\u0081}b", "argparse.Namespace" },
        { "cpathlib\nPosixPath\n)R", "pathlib.PosixPath" },
        { "cnumpy.core.multiarray\n_reconstruct\n)R", "numpy.core.multiarray._reconstruct" },
        { "cnumpy.core.multiarray\nscalar\n)R", ".item() of single numbers" },
        { "ctorch._utils\n_rebuild_sparse_tensor\n)R", ".to_dense()" },
        { "ctorch._utils\n_rebuild_qtensor\n)R", ".dequantize()" },
        { "ctorch\nfloat8_e4m3fn\n", "TorchSharp has no such elements" },
        { "ctorch.nn.modules.linear\nLinear\n)\u0081}b", "torch.nn.modules.linear.Linear" },
        { "ctorch\nFloatStorage\n)R", "calls torch.FloatStorage" },
        { "cbuiltins\ndict\n)R", "calls builtins.dict" },
        { "(ios\nsystem\n", "in a way that no checkpoint needs" },
        { "(cos\nsystem\no", "os.system" },
        { ")}\u0092", "in a way that no checkpoint needs" },
        { "\u0082\u0001", "registered number" },
        { "ca\u001b[31m\nb\n", "asks for a?[31m.b" },
        { $"{TorchFiles.Text("x")})R", "calls something that is no function" },
        { "ctorch\nSize\nNR", "without a tuple" },
        { "cbuiltins\nset\n(]ccollections\nCounter\n)Rcbuiltins\nset\n)Rt\u0081", "belong" },
        { "c__builtin__\nset\n)R}b", "sets attributes of" },
        { "ctorch._tensor\n_rebuild_from_type_v2\n(ctorch\ndevice\nctorch\nTensor\n)}tR", "do not belong there" },
    };

    [Theory]
    [MemberData(nameof(Calls))]
    public void Load_PickleThatAsksForACall_IsRefusedByNameAndNothingIsExecuted(string instructions, string reason)
    {
        using var folder = new TemporaryFolder();
        File.WriteAllBytes(folder["m.pt"], TorchFiles.Zip(TorchFiles.Pickle(instructions)));
        var message = Checkpoints.Fails(() => CheckpointReader.Open(folder["m.pt"])).Message;
        Assert.Contains(folder["m.pt"], message);
        Assert.Contains(reason, message);
        Assert.False(File.Exists(Marker), "The pickle was executed.");
    }

    [Fact]
    public void Load_UnknownClass_SaysWhatToDo()
    {
        using var folder = new TemporaryFolder();
        File.WriteAllBytes(folder["m.pt"], TorchFiles.Zip(TorchFiles.Pickle("cmine\nModel\n)\u0081")));
        var message = Checkpoints.Fails(() => CheckpointReader.Open(folder["m.pt"])).Message;
        Assert.Contains("asks for mine.Model", message);
        Assert.Contains("nothing was executed", message);
        Assert.Contains("torch.save(model.state_dict(), path)", message);
        Assert.Contains("safetensors.torch.save_file", message);
    }

    public static TheoryData<string, string> Broken => new()
    {
        { "", "empty stack" },
        { "0", "empty stack" },
        { "(", "ends inside a collection" },
        { "(t(", "ends inside a collection" },
        { "t", "never began" },
        { "e", "never began" },
        { "N\u0085\u0086", "empty stack" },
        { "N(\u0085t", "empty stack" },
        { "N(a", "empty stack" },
        { "NNa", "appends to a None" },
        { "}Na", "appends to a PickleDict" },
        { "](NNu", "sets items of a PickleList" },
        { "}(Nu", "a key without a value" },
        { "](N\u0090", "adds to a PickleList" },
        { "h\u0000", "asks for value 0 of the 0" },
        { "j\u00ff\u00ff\u00ff\u00ff", "asks for value 4294967295" },
        { "Nq\u0002", "notes a value as number 2 when it has 0" },
        { "Nr\u00ff\u00ff\u00ff\u00ff", "notes a value as number 4294967295" },
        { "X\u00ff\u00ff\u00ff\u00ff", "4294967295 more were expected" },
        { "\u008d\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff", "18446744073709551615 more were expected" },
        { "\u008e\u0000\u0000\u0000\u0000\u0001\u0000\u0000\u0000", "4294967296 more were expected" },
        { "\u008b\u00ff\u00ff\u00ff\u007f", "an integer has 2147483647 bytes" },
        { "U\u0001\u00ff", "not UTF-8" },
        { "X\u0003\u0000\u0000\u0000\u00ed\u00a0\u0080", "not UTF-8" },
        { "I1\n", "protocol 0 or 1" },
        { "\u0097", "outside of itself" },
        { "\u00ff", "unknown instruction 0xff" },
        { "\u0080\u0006N", "protocol 6" },
        { "\u0080\u0001N", "protocol 1" },
        { "NQ", "no storage" },
        { "}]Ns", "neither texts nor numbers" },
        { $"}}(K\u0001N{TorchFiles.Text("1")}Nu", "two different keys 1" },
        { "]q\u0000h\u0000a", "nested deeper than 64" },
        { $"}}q\u0000({TorchFiles.Text("a")}h\u0000u", "nested deeper than 64" },
    };

    [Theory]
    [MemberData(nameof(Broken))]
    public void Load_BrokenPickle_SaysWhatIsWrong(string instructions, string reason)
    {
        using var folder = new TemporaryFolder();
        File.WriteAllBytes(folder["m.pt"], TorchFiles.Zip(TorchFiles.Pickle(instructions)));
        Assert.Contains(reason, Checkpoints.Fails(() => CheckpointReader.Open(folder["m.pt"])).Message);
    }

    [Fact]
    public void Load_NameWithoutAnEnd_IsRefused() =>
        Assert.Contains("more than 512 bytes", Assert.Throws<FormatException>(() => Run("c" + new string('x', 100_000))).Message);

    /// <summary>Each list holds the one before it twice: 2^60 values out of 600 bytes.</summary>
    [Fact]
    public void Load_ListsThatDoubleThemselves_AreRefusedSoonAndInLittleMemory()
    {
        var bomb = new StringBuilder("]q\u0000");
        for (var i = 0; i < 60; i++)
            bomb.Append($"]q{(char)(i + 1)}(h{(char)i}h{(char)i}e");
        RequireBounded($"{bomb}}}({TorchFiles.Text("a")}h{(char)60}u", "more than 4000000");
    }

    /// <summary>A long text, named again and again.</summary>
    [Fact]
    public void Load_TextThatIsRepeated_IsRefusedSoonAndInLittleMemory() => RequireBounded(
        $"}}({TorchFiles.Text("a")}](X{Latin1(BitConverter.GetBytes(1 << 20))}{new string('x', 1 << 20)}q\u0000{string.Concat(Enumerable.Repeat("h\u0000", 1 << 16))}eu", "268435456 bytes");

    /// <summary>Each set of the same list would be a copy of it.</summary>
    [Fact]
    public void Load_CopiesOfTheSameList_AreRefusedSoonAndInLittleMemory() => RequireBounded(
        $"](N{new string('2', 1 << 20)}eq\u0000cbuiltins\nset\nq\u0001{string.Concat(Enumerable.Repeat("h\u0001h\u0000\u0085R0", 1 << 14))}", "copies more than");

    /// <summary>The same key a million times: one value, but as much work each time.</summary>
    [Fact]
    public void Load_DictionaryOfOneKeyAgainAndAgain_IsRefusedSoonAndInLittleMemory() => RequireBounded(
        $"}}(N{new string('2', (1 << 20) - 1)}uq\u0000}}({TorchFiles.Text("a")}]({string.Concat(Enumerable.Repeat("h\u0000", 1 << 20))}eu", "more than 4000000");

    /// <summary>A state dict, named again and again.</summary>
    [Fact]
    public void Load_StateDictAgainAndAgain_IsRefusedSoonAndInLittleMemory() => RequireBounded(
        $"{TorchFiles.Tensor("0", 1, "K\u0000", ")", ")")}q\u00000}}({string.Concat(Enumerable.Range(0, 30_000).Select(i => $"M{(char)(i & 255)}{(char)(i >> 8)}h\u0000"))}uq\u00010}}({string.Concat(Enumerable.Range(0, 30_000).Select(i => $"M{(char)(i & 255)}{(char)(i >> 8)}h\u0001"))}u", "more than 2000000");

    [Fact]
    public void Load_NamesThatATerminalWouldObey_AreShownWithoutThat()
    {
        using var folder = new TemporaryFolder();
        File.WriteAllBytes(folder["m.pt"], TorchFiles.Zip(TorchFiles.Pickle(TorchFiles.Tensor("\u001b[2J" + new string('x', 5000), 1, "K\u0000", ")", ")"))));
        var message = Checkpoints.Fails(() => CheckpointReader.Open(folder["m.pt"])).Message;
        Assert.Contains("the storage '?[2Jxxx", message);
        Assert.InRange(message.Length, 1000, 1200);
    }

    [Fact]
    public void Load_TensorsOfTheSameShapeOfMillions_AreRefusedSoonAndInLittleMemory() => RequireBounded(
        $"(K\u0001{new string('2', 1 << 20)}tq\u0000{TorchFiles.Tensor("0", 1, "K\u0000", "h\u0000", "h\u0000")}", "dimensions");

    [Fact]
    public void Load_MoreInstructionsThanTheLimit_IsRefused() => RequireBounded(string.Concat(Enumerable.Repeat("N0", 9_000_000)), "more than 16000000 instructions");

    [Fact]
    public void Load_MoreValuesOnTheStackThanTheLimit_IsRefused() => RequireBounded(new string('N', 5_000_000), "on its stack");

    public static TheoryData<string, string, string, string, long> BadTensors => new()
    {
        { TorchFiles.Integer(0), TorchFiles.Tuple(5), TorchFiles.Tuple(1), "would reach element 4", 4 },
        { TorchFiles.Integer(1), TorchFiles.Tuple(4), TorchFiles.Tuple(1), "would reach element 4", 4 },
        { TorchFiles.Integer(0), TorchFiles.Tuple(2, 2), TorchFiles.Tuple(3, 1), "would reach element 4", 4 },
        { TorchFiles.Integer(-1), TorchFiles.Tuple(2), TorchFiles.Tuple(1), "the offset -1", 4 },
        { TorchFiles.Integer(0), TorchFiles.Tuple(-2), TorchFiles.Tuple(1), "the shape [-2]", 4 },
        { TorchFiles.Integer(3), TorchFiles.Tuple(2), TorchFiles.Tuple(-1), "the strides [-1]", 4 },
        { TorchFiles.Integer(0), TorchFiles.Tuple(2), TorchFiles.Tuple(1, 1), "the strides [1,1]", 4 },
        { TorchFiles.Integer(0), TorchFiles.Tuple(1L << 32, 1L << 32), TorchFiles.Tuple(0, 0), "larger than any memory", 4 },
        { TorchFiles.Integer(0), TorchFiles.Tuple(0, 1L << 62), TorchFiles.Tuple(1, 1), "larger than any memory", 4 },
        { TorchFiles.Integer(0), TorchFiles.Tuple(2), TorchFiles.Tuple(long.MaxValue), "would reach element", 4 },
        { TorchFiles.Integer(long.MaxValue), TorchFiles.Tuple(2), TorchFiles.Tuple(1), "would reach element", 4 },
        { TorchFiles.Integer(0), TorchFiles.Tuple(1L << 40), TorchFiles.Tuple(0), "repeats 1 elements", 4 },
        { TorchFiles.Integer(0), "(G\0\0\0\0\0\0\0\0t", TorchFiles.Tuple(1), "do not belong there", 4 },
        { TorchFiles.Text("0"), TorchFiles.Tuple(1), TorchFiles.Tuple(1), "do not belong there", 4 },
        { TorchFiles.Integer(0), TorchFiles.Tuple(4), TorchFiles.Tuple(1), "the storage '0' has 16 bytes, and 5 elements", 5 },
        { TorchFiles.Integer(0), TorchFiles.Tuple(4), TorchFiles.Tuple(1), "the storage '0' has 16 bytes, and -1 elements", -1 },
        { TorchFiles.Integer(0), TorchFiles.Tuple(4), TorchFiles.Tuple(1), $"{long.MaxValue} elements", long.MaxValue },
    };

    [Theory]
    [MemberData(nameof(BadTensors))]
    public void Load_TensorOutsideOfItsStorage_IsRefused(string offset, string shape, string strides, string reason, long count)
    {
        using var folder = new TemporaryFolder();
        File.WriteAllBytes(folder["m.pt"], TorchFiles.Zip(TorchFiles.Pickle(TorchFiles.Tensor("0", count, offset, shape, strides)), ("0", new byte[16])));
        Assert.Contains(reason, Checkpoints.Fails(() => CheckpointReader.Open(folder["m.pt"])).Message);
    }

    [Theory]
    [InlineData("1", "FloatStorage", "the storage '1' is missing")]
    [InlineData("../data.pkl", "ByteStorage", "the storage '../data.pkl' is missing")]
    [InlineData("0", "QUInt8Storage", "asks for torch.QUInt8Storage")]
    public void Load_StorageThatIsNotThere_IsRefused(string key, string type, string reason)
    {
        using var folder = new TemporaryFolder();
        File.WriteAllBytes(folder["m.pt"], TorchFiles.Zip(TorchFiles.Pickle(TorchFiles.Tensor(key, 4, TorchFiles.Integer(0), TorchFiles.Tuple(4), TorchFiles.Tuple(1), type)), ("0", new byte[16])));
        Assert.Contains(reason, Checkpoints.Fails(() => CheckpointReader.Open(folder["m.pt"])).Message);
    }

    private static void RequireBounded(string instructions, string reason)
    {
        using var folder = new TemporaryFolder();
        File.WriteAllBytes(folder["m.pt"], TorchFiles.Zip(TorchFiles.Pickle(instructions), ("0", new byte[4])));
        var (before, watch) = (GC.GetAllocatedBytesForCurrentThread(), Stopwatch.StartNew());
        var message = Checkpoints.Fails(() => CheckpointReader.Open(folder["m.pt"])).Message;
        Assert.Contains(reason, message);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 2L << 30);
        Assert.InRange(watch.Elapsed, TimeSpan.Zero, TimeSpan.FromSeconds(60));
    }

    private static string Latin1(byte[] bytes) => Encoding.Latin1.GetString(bytes);

    private static object? Run(string instructions) => new PickleMachine(new PickleSource(TorchFiles.Pickle(instructions)), _ => throw new FormatException("no storage")).Run();
}
