using FabricSharp.Collectives;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>Makes the ranks' models equal before training: checks that they have the same shape, then copies rank 0's values.</summary>
internal sealed class ReplicaSynchronizer(
    ProcessGroup group,
    IReadOnlyList<(string Name, Parameter Parameter)> parameters,
    IReadOnlyList<(string Name, Tensor Buffer)> buffers)
{
    /// <summary>Compares names, shapes, strides and types on all ranks. Collective; a difference throws on every rank.</summary>
    /// <param name="settings">Anything else that must be the same, by name.</param>
    public void Verify(IReadOnlyList<(string Name, string Value)> settings)
    {
        var mine = Describe(settings);
        var all = group.AllGatherObject(string.Join('\n', mine));
        for (var rank = 1; rank < all.Count; rank++)
            Compare(all[0].Split('\n'), all[rank].Split('\n'), rank);
    }

    /// <summary>Gives the parameters and buffers of rank <paramref name="root"/> to all ranks. Collective.</summary>
    public void BroadcastAll(int root)
    {
        using var gradientsOff = no_grad();
        var works = new List<Work>();
        foreach (var (_, parameter) in parameters)
            works.Add(group.Broadcast(parameter, root));
        foreach (var (_, buffer) in buffers)
            works.Add(group.Broadcast(buffer, root));
        works.ForEach(work => work.Wait());
    }

    private List<string> Describe(IReadOnlyList<(string Name, string Value)> settings)
    {
        var lines = settings.Select(setting => $"setting '{setting.Name}'\t{setting.Value}").ToList();
        lines.Add($"number of parameters\t{parameters.Count}");
        lines.AddRange(parameters.Select(p => $"parameter '{p.Name}'\tshape {Text(p.Parameter.shape)}, {p.Parameter.dtype}, {(p.Parameter.requires_grad ? "trainable" : "frozen")}, strides {Text(p.Parameter.stride())}"));
        lines.AddRange(buffers.Select(b => $"buffer '{b.Name}'\tshape {Text(b.Buffer.shape)}, {b.Buffer.dtype}"));
        return lines;
    }

    private static string Text(long[] numbers) => $"[{string.Join(", ", numbers)}]";

    private void Compare(string[] first, string[] other, int rank)
    {
        var length = Math.Max(first.Length, other.Length);
        var countDiffers = default(string);
        for (var i = 0; i < length; i++)
        {
            var (nameA, valueA) = Split(i < first.Length ? first[i] : "(nothing)\tno further entry");
            var (nameB, valueB) = Split(i < other.Length ? other[i] : "(nothing)\tno further entry");
            if (nameA == nameB && valueA == valueB)
                continue;
            if (nameA == "number of parameters")
            {
                countDiffers = $"Rank 0 has {valueA} params, while rank {rank} has inconsistent {valueB} params. ";
                continue; // go on to the first parameter that differs
            }

            throw new InvalidOperationException(
                $"DDP expects same model across all ranks, but {countDiffers}{(countDiffers is null ? "the" : "The")} first difference is: rank 0 has {nameA} ({valueA}), rank {rank} has {nameB} ({valueB}). " +
                $"(This is rank {group.Rank}.) Build the same model with the same options on every rank; only values may differ, they are taken from rank 0.");
        }
    }

    private static (string Name, string Value) Split(string line)
    {
        var tab = line.IndexOf('\t');
        return tab < 0 ? (line, "") : (line[..tab], line[(tab + 1)..]);
    }
}
