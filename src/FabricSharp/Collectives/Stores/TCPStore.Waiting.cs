using System.Diagnostics;
using FabricSharp.Collectives.Stores;

namespace FabricSharp.Collectives;

/// <content>Waits for keys and for the other processes.</content>
public sealed partial class TCPStore
{
    private const int KeysLookedUp = 64;
    private static readonly TimeSpan WorkerPoll = TimeSpan.FromMilliseconds(10);

    /// <inheritdoc/>
    public override void Wait(IReadOnlyList<string> keys, TimeSpan timeout)
    {
        StoreArguments.CheckKeys(keys);
        StoreArguments.CheckTimeout(timeout);
        string[] wireKeys = [.. keys.Select(Wire)];
        if (_client.HasUnanswered && CheckRaw(wireKeys))
            return; // asked in the order of the calls: a thread finds what it has set, however short the limit
        var operation = $"a wait for {StoreErrors.List(wireKeys)}";
        var outcome = _client.Wait(operation, new StoreRequest(StoreQuery.Wait).Keys(wireKeys), timeout);
        if (outcome == WaitOutcome.TimedOut)
            throw StoreErrors.WaitTimedOut(timeout, wireKeys, MissingOf(wireKeys), $"{Host}:{Port}");
        if (outcome == WaitOutcome.Unanswered)
            throw StoreErrors.WaitTimedOut(timeout, wireKeys, wireKeys, $"{Host}:{Port}, which answers no more");
    }

    // For the message only: of very many keys the first, and all where the server cannot be asked.
    private IReadOnlyList<string> MissingOf(string[] wireKeys)
    {
        if (wireKeys.Length is 1 or > KeysLookedUp)
            return wireKeys;

        try
        {
            return [.. wireKeys.Where(key => !CheckRaw([key]))];
        }
        catch (DistributedException)
        {
            return wireKeys;
        }
    }

    private void WaitForWorkers(int worldSize)
    {
        var start = Stopwatch.GetTimestamp();
        var deadline = Deadline.After(Timeout);
        while (AddRaw(StoreProtocol.JoinedKey, 0) is var joined && joined < worldSize)
        {
            if (deadline.HasPassed)
                throw StoreErrors.WorkersMissing(Stopwatch.GetElapsedTime(start), joined, worldSize, $"{Host}:{Port}");
            Task.Delay(WorkerPoll).Wait();
        }
    }
}
