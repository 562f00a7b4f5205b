using System.Text;
using FabricSharp.Collectives;
using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>Exchanges texts of different lengths.</summary>
internal static class RankTexts
{
    /// <summary>Every rank's text, in rank order. Collective.</summary>
    public static string[] AllGather(ProcessGroup group, string text)
    {
        using var scope = NewDisposeScope();
        var bytes = Encoding.UTF8.GetBytes(text);
        var lengths = zeros(group.Size, ScalarType.Int64);
        group.AllGather(lengths, tensor(new long[] { bytes.Length })).Wait();
        var counts = lengths.data<long>().ToArray();
        var padded = new byte[counts.Max()];
        bytes.CopyTo(padded, 0);
        var all = zeros([group.Size, padded.Length], ScalarType.Byte);
        group.AllGather(all, tensor(padded)).Wait();
        var flat = all.data<byte>().ToArray();
        return [.. Enumerable.Range(0, group.Size).Select(rank => Encoding.UTF8.GetString(flat, rank * padded.Length, (int)counts[rank]))];
    }
}
