using System.Buffers.Binary;
using System.Text;
using FabricSharp.Checkpointing;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Checkpointing;

/// <summary>What the tests of checkpoints share.</summary>
internal static class Checkpoints
{
    public static Fabric OneRank()
    {
        var fabric = new Fabric(accelerator: "cpu", devices: 1);
        fabric.Launch();
        return fabric;
    }

    public static Sequential Net(int hidden = 3) => nn.Sequential(("first", nn.Linear(2, hidden)), ("norm", nn.BatchNorm1d(hidden)), ("second", nn.Linear(hidden, 1)));

    /// <summary>Every value of a module, bit for bit, to compare with another's.</summary>
    public static string Fingerprint(nn.Module module) =>
        string.Join('\n', module.state_dict().OrderBy(entry => entry.Key, StringComparer.Ordinal).Select(entry => $"{entry.Key} {Fingerprint(entry.Value)}"));

    public static string Fingerprint(Tensor tensor)
    {
        using var plain = tensor.detach().clone().contiguous();
        return $"{plain.dtype}[{string.Join(',', plain.shape)}] {(plain.NumberOfElements == 0 ? "" : Convert.ToHexString(plain.bytes))}";
    }

    /// <summary>A safetensors file as another program would write it.</summary>
    public static byte[] RawFile(string json, int dataBytes, ulong? headerLength = null)
    {
        var header = Encoding.UTF8.GetBytes(json);
        var file = new byte[8 + header.Length + dataBytes];
        BinaryPrimitives.WriteUInt64LittleEndian(file, headerLength ?? (ulong)header.Length);
        header.CopyTo(file, 8);
        for (var i = 8 + header.Length; i < file.Length; i++)
            file[i] = 1;
        return file;
    }

    public static CheckpointException Fails(Action action) => Assert.Throws<CheckpointException>(action);
}
