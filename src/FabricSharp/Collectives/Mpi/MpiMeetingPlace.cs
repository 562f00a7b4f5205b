using System.Runtime.InteropServices;

namespace FabricSharp.Collectives.Mpi;

/// <summary>
/// Where the ranks of a job meet before they make a communicator, which MPI does in a call that knows no limit: a word from each to each other,
/// for which one can wait with a limit. It is the rendezvous: neither an address nor a store is needed.
/// </summary>
internal static unsafe class MpiMeetingPlace
{
    private const int Tag = 32701; // of the world's communicator, which belongs to the program

    public static void Meet(MpiRuntime runtime, TimeSpan timeout)
    {
        var (rank, size, api) = (runtime.WorldRank, runtime.WorldSize, runtime.Api);
        var words = (long*)NativeMemory.AllocZeroed((nuint)size + 1, sizeof(long)); // not given back after a failure: MPI may still write to it
        var receives = new IntPtr[size];
        var came = new bool[size];
        came[rank] = true;
        var sends = new MpiTransfer();
        lock (runtime.Gate)
            for (var peer = 0; peer < size; peer++)
            {
                if (peer == rank)
                    continue;
                receives[peer] = api.Receive((byte*)(words + peer), sizeof(long), peer, Tag, api.World);
                sends.Add(api.Send((byte*)(words + size), sizeof(long), peer, Tag, api.World));
            }

        bool HaveAllCome()
        {
            lock (runtime.Gate)
            {
                for (var peer = 0; peer < size; peer++)
                    came[peer] |= !came[peer] && api.Test(receives[peer]);
                return came.All(each => each) && sends.IsOver(api);
            }
        }

        if (!runtime.WaitFor(HaveAllCome, timeout))
        {
            var missing = Enumerable.Range(0, size).Where(peer => !came[peer]).ToList();
            throw new DistributedTimeoutException(
                $"Rank {rank}: {(missing.Count == 0 ? "the other ranks" : RankName.OfAll(missing, [.. Enumerable.Range(0, size)]))} did not come to the process group within {timeout.TotalSeconds:0.###} s. " +
                "Do they make one, and as many as this rank? Are they busy with something else before it?");
        }

        NativeMemory.Free(words);
    }
}
