using FabricSharp.Checkpointing;

namespace FabricSharp.Tests.Checkpointing.PyTorch;

/// <summary>Zip files and old files that torch.save did not write, or that were changed.</summary>
public class ZipDirectoryTests
{
    private static readonly byte[] Pickle = TorchFiles.Pickle("}");

    [Theory]
    [InlineData("../m/data/0")]
    [InlineData("/etc/passwd")]
    [InlineData("m/../../x")]
    [InlineData("m/./x")]
    [InlineData("m//x")]
    [InlineData("m\\..\\x")]
    [InlineData("m/x\0")]
    [InlineData("")]
    public void Open_NameThatLeadsElsewhere_IsRefused(string name) => Refuses(TorchFiles.ZipOf(("m/data.pkl", Pickle), (name, [1])), "leads elsewhere");

    [Fact]
    public void Open_NameThatIsNotUtf8OrTooLong_IsRefused()
    {
        var file = TorchFiles.ZipOf(("m/data.pkl", Pickle), ("m/q", [1]));
        var at = file.AsSpan().LastIndexOf("m/q"u8);
        file[at + 2] = 0xff;
        Refuses(file, "not UTF-8");
        Refuses(TorchFiles.ZipOf(("m/data.pkl", Pickle), ("m/" + new string('x', 2000), [1])), "has 2002 bytes");
    }

    [Fact]
    public void Open_TheSameNameTwice_IsRefused() => Refuses(TorchFiles.ZipOf(("m/data.pkl", Pickle), ("m/data.pkl", TorchFiles.Pickle("]"))), "'m/data.pkl' twice");

    [Fact]
    public void Open_Compressed_IsRefusedUnread() => Refuses(TorchFiles.ZipOf([("m/data.pkl", Pickle)], method: 8), "is compressed (method 8)");

    [Fact]
    public void Open_Encrypted_IsRefused()
    {
        var file = TorchFiles.ZipOf(("m/data.pkl", Pickle));
        file[file.AsSpan().IndexOf("PK\u0001\u0002"u8) + 8] |= 1;
        Refuses(file, "is encrypted");
    }

    [Theory]
    [InlineData(1000u)]
    [InlineData(uint.MaxValue - 1)]
    [InlineData(uint.MaxValue)] // stands for a zip64 size, which is not there
    public void Open_ClaimedSizeBeyondTheFile_IsRefused(uint claimed) => Refuses(TorchFiles.ZipOf([("m/data.pkl", Pickle)], method: 0, claimed: claimed), $"would have {claimed} bytes");

    [Fact]
    public void Open_FilesThatShareBytes_AreRefused()
    {
        var inner = TorchFiles.ZipOf(("m/x", new byte[40]));
        Refuses(TorchFiles.ZipOf([("m/x", inner), ("m/x", inner)], method: 0, at: 0), "twice");
        Refuses(TorchFiles.ZipOf([("m/data.pkl", Pickle), ("m/y", Pickle)], method: 0, at: 0), "is not where its directory says");
    }

    [Fact]
    public void Open_BigEndian_IsRefused()
    {
        Refuses(TorchFiles.ZipOf(("m/data.pkl", Pickle), ("m/byteorder", "big"u8.ToArray())), "its byte order is 'big'");
        Refuses(TorchFiles.ZipOf(("m/data.pkl", Pickle), ("m/byteorder", new byte[65])), "has 65 bytes");
    }

    [Fact]
    public void Open_OtherZipFiles_AreToldApart()
    {
        Refuses(TorchFiles.ZipOf(("x/y.txt", [1])), "0 files FOLDER/data.pkl");
        Refuses(TorchFiles.ZipOf(("a/data.pkl", Pickle), ("b/data.pkl", Pickle)), "2 files FOLDER/data.pkl");
        Refuses(TorchFiles.ZipOf(("m/data.pkl", Pickle), ("m/constants.pkl", Pickle)), "TorchScript");
        Refuses("PK\u0003\u0004 and more of it"u8.ToArray(), "the end of one is missing");
    }

    [Fact]
    public void Open_DirectoryThatClaimsMuch_IsRefusedBeforeMemoryIsTaken()
    {
        foreach (var (offset, bytes) in new[] { (10, new byte[] { 0xfe, 0xff }), (12, [0xff, 0xff, 0xff, 0x7f]), (16, [0xff, 0xff, 0xff, 0x7f]) })
        {
            var file = TorchFiles.ZipOf(("m/data.pkl", Pickle));
            bytes.CopyTo(file, file.Length - 22 + offset);
            Refuses(file, "its directory would have");
        }
    }

    [Fact]
    public void Open_WrongChecksum_IsCorrupt()
    {
        Refuses(TorchFiles.ZipOf([("m/data.pkl", Pickle)], method: 0, crc: 5), "'m/data.pkl' in it is corrupt: its checksum");
        Accepts(TorchFiles.ZipOf([("m/data.pkl", Pickle)], method: 0, crc: 0)); // left out by the writer
        Accepts(TorchFiles.ZipOf(("m/", []), ("m/data.pkl", Pickle))); // packed again by another program
    }

    [Fact]
    public void Load_TruthValueOfTwo_IsRefused()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        File.WriteAllBytes(folder["m.pt"], TorchFiles.Zip(TorchFiles.Pickle(TorchFiles.Tensor("0", 2, TorchFiles.Integer(0), TorchFiles.Tuple(2), TorchFiles.Tuple(1), "BoolStorage")), ("0", [1, 2])));
        Assert.Contains("other than 0 and 1", Checkpoints.Fails(() => fabric.Load(folder["m.pt"])).Message);
    }

    [Fact]
    public void Open_PickleThatIsNotOfTorchSave_IsToldApart() => Refuses(TorchFiles.Pickle("}"), "a pickle, but not one of torch.save");

    [Theory]
    [InlineData("little_endian\u0088", "little_endian\u0089", "byte order")]
    [InlineData("M\u00e9\u0003", "M\u00ea\u0003", "its protocol is not 1001")]
    public void Open_LegacyFileChanged_SaysWhatIsWrong(string old, string changed, string reason)
    {
        var file = System.Text.Encoding.Latin1.GetString(File.ReadAllBytes(TorchFiles.PathOf("legacy.pt")));
        var at = old[0] == 'l' ? file.IndexOf("little_endian", StringComparison.Ordinal) : file.IndexOf(old, StringComparison.Ordinal);
        if (old[0] == 'l')
            file = file.Remove(file.IndexOf('\u0088', at), 1).Insert(file.IndexOf('\u0088', at), "\u0089");
        else
            file = file[..at] + changed + file[(at + old.Length)..];
        Refuses(System.Text.Encoding.Latin1.GetBytes(file), reason);
    }

    private static void Accepts(byte[] file)
    {
        using var folder = new TemporaryFolder();
        File.WriteAllBytes(folder["m.pt"], file);
        CheckpointReader.Open(folder["m.pt"]).Dispose();
    }

    private static void Refuses(byte[] file, string reason)
    {
        using var folder = new TemporaryFolder();
        File.WriteAllBytes(folder["m.pt"], file);
        var message = Checkpoints.Fails(() => CheckpointReader.Open(folder["m.pt"]).Dispose()).Message;
        Assert.Contains(folder["m.pt"], message);
        Assert.Contains(reason, message);
        Assert.Equal(["m.pt"], folder.Names);
    }
}
