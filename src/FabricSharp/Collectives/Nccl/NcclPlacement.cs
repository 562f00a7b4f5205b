using FabricSharp.Collectives.Control;

namespace FabricSharp.Collectives.Nccl;

/// <summary>Where a rank runs, as it tells the others.</summary>
/// <param name="Machine">Which machine.</param>
/// <param name="Device">The number of its device; -1 for its place among the ranks of its machine.</param>
/// <param name="BusIds">The hardware behind each device number, as the process sees it.</param>
internal sealed record Member(string Machine, int Device, string[] BusIds)
{
    public static Member Here(NcclEngine engine, int? device)
    {
        var busIds = Enumerable.Range(0, engine.Cuda.DeviceCount).Select(engine.Cuda.BusIdOf).ToArray();
        return new Member(ControlMeeting.Machine, device ?? -1, busIds);
    }
}

/// <summary>Which device each rank uses. NCCL takes each device once.</summary>
internal static class NcclPlacement
{
    /// <summary>The device of <paramref name="rank"/>. Every rank finds the same faults, so that none waits for the others.</summary>
    /// <exception cref="DistributedException">A device does not exist, or two ranks would share one.</exception>
    public static int DeviceOf(int rank, IReadOnlyList<Member> members, IReadOnlyList<int> globalRanks)
    {
        var devices = Enumerable.Range(0, members.Count).Select(other => Choose(other, members)).ToArray();
        var me = $"R{RankName.Of(rank, globalRanks)[1..]}";
        var used = new Dictionary<(string Machine, string Hardware), int>();
        for (var other = 0; other < members.Count; other++)
        {
            var (member, device, name) = (members[other], devices[other], RankName.Of(other, globalRanks));
            if (device < 0 || device >= member.BusIds.Length)
                throw new DistributedException($"{me}: {name} has no GPU of its own: it would be cuda:{device}, and it sees {member.BusIds.Length}. Start as many ranks on a machine as it has GPUs, and look at CUDA_VISIBLE_DEVICES.");
            var hardware = (member.Machine, member.BusIds[device]);
            if (!used.TryAdd(hardware, other))
                throw new DistributedException(
                    $"{me}: {RankName.Of(used[hardware], globalRanks)} and {name} would use the same GPU ({member.BusIds[device]} of {member.Machine.Split(' ')[0]}), which NCCL refuses. " +
                    "Give each rank a GPU of its own: devices: n with n GPUs, CUDA_VISIBLE_DEVICES that do not overlap, or pass another device to ProcessGroup.Create.");
        }

        return devices[rank];
    }

    /// <summary>By its own choice, else its place among the ranks of its machine, or its only device where the launcher shows it just one.</summary>
    private static int Choose(int rank, IReadOnlyList<Member> members)
    {
        var member = members[rank];
        if (member.Device >= 0)
            return member.Device;
        return member.BusIds.Length == 1 ? 0 : members.Take(rank).Count(other => other.Machine == member.Machine);
    }
}
