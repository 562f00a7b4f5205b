using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using FabricSharp.Collectives;
using FabricSharp.Collectives.Control;

namespace FabricSharp.Tests.Collectives.Control;

public class ControlLineTests
{
    private static readonly TimeSpan Short = TimeSpan.FromMilliseconds(150);

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(5)]
    public void Answer_EveryRankCalls_HoldsTheirBytesInOrder(int ranks) => Run(ranks, line =>
    {
        for (var i = 0; i < 50; i++)
        {
            var number = line.CallForAnswer(3, "exchange", [(byte)line.Rank, (byte)i]);
            Assert.Equal(Enumerable.Range(0, ranks).SelectMany(rank => new[] { (byte)rank, (byte)i }), line.Answer(3, number, "exchange", GroupOfThreads.Limit));
        }
    });

    [Fact]
    public void Answer_RankThatDoesNotCall_TimesOutAndNamesIt() => Run(3, line =>
    {
        Answer(line, 1);
        if (line.Rank == 1)
        {
            Answer(line, 2); // stays until the others have seen it
            return;
        }

        var number = line.CallForAnswer(1, "exchange", []);
        Assert.Contains("exchange timed out after 0.15 s: rank 1 did not call it", Assert.Throws<DistributedTimeoutException>(() => line.Answer(1, number, "exchange", Short)).Message);
        Answer(line, 2);
    });

    [Fact]
    public void IsAgreed_OtherRankHasNotCalled_IsFalse()
    {
        using var looked = new ManualResetEventSlim();
        Run(2, line =>
        {
            if (line.Rank == 1)
                Assert.True(looked.Wait(GroupOfThreads.Limit));
            var number = line.Call(1, "sum");
            if (line.Rank == 0)
            {
                Answer(line, 2, wait: false);
                Assert.False(line.IsAgreed(1, number));
                looked.Set();
            }
            else
            {
                Answer(line, 2, wait: false);
            }

            Assert.True(SpinWait.SpinUntil(() => line.IsAgreed(1, number), GroupOfThreads.Limit));
        });
    }

    [Fact]
    public void Channels_InAnyOrder_DoNotDisturbEachOther() => Run(2, line =>
    {
        int[] channels = line.Rank == 0 ? [1, 2, 3] : [3, 1, 2];
        var numbers = channels.Select(channel => (channel, number: line.CallForAnswer(channel, $"on {channel}", [(byte)channel]))).ToList();
        foreach (var (channel, number) in numbers)
            Assert.Equal([(byte)channel, (byte)channel], line.Answer(channel, number, "", GroupOfThreads.Limit));
    });

    [Fact]
    public void Leave_BeforeACall_EndsTheOthersWaitForIt()
    {
        var failures = RunEach(2, line =>
        {
            var number = line.CallForAnswer(1, "first", []);
            line.Answer(1, number, "first", GroupOfThreads.Limit);
            if (line.Rank == 1)
                return;
            number = line.CallForAnswer(1, "second", []);
            line.Answer(1, number, "second", GroupOfThreads.Limit);
        });
        Assert.Equal(1, Assert.IsType<PeerFailedException>(failures[0]).FailedRank);
    }

    [Fact]
    public void Hub_StrangerWithoutTheSecret_IsTurnedAway()
    {
        using var hub = new ControlHub(2, new byte[16], IPAddress.Loopback);
        foreach (var content in new byte[][] { [], [9, 9, 9, 9, 9], [20, 0, 0, 0, 1, .. Enumerable.Repeat((byte)7, 16), 0, 0, 0, 0], [255, 255, 255, 255, 1], [20, 0, 0, 0, 1, .. new byte[16], 9, 0, 0, 0] })
        {
            using var stranger = new TcpClient("127.0.0.1", hub.Port) { ReceiveTimeout = 20_000 };
            stranger.Client.Send(content);
            stranger.Client.Shutdown(SocketShutdown.Send);
            Assert.Equal(0, ReceiveOrZero(stranger.Client));
        }
    }

    [Fact]
    public void Exchange_OnOneMachine_IsQuick() => Run(2, line =>
    {
        var times = new List<double>();
        for (var i = 0; i < 400; i++)
        {
            var begin = Stopwatch.GetTimestamp();
            Answer(line, 1, bytes: 256);
            times.Add(Stopwatch.GetElapsedTime(begin).TotalMicroseconds);
        }

        times.Sort();
        if (line.Rank == 0)
            TestContext.Current.TestOutputHelper?.WriteLine($"median {times[200]:0} µs, 90 % {times[360]:0} µs");
        Assert.InRange(times[200], 0, 5000); // on a busy machine; about 50 µs on a quiet one
    });

    private static void Answer(ControlLine line, int channel, bool wait = true, int bytes = 0)
    {
        var number = line.CallForAnswer(channel, "exchange", new byte[bytes]);
        if (wait)
            line.Answer(channel, number, "exchange", GroupOfThreads.Limit);
    }

    private static int ReceiveOrZero(Socket socket)
    {
        try
        {
            return socket.Receive(new byte[100]);
        }
        catch (SocketException e) when (e.SocketErrorCode == SocketError.ConnectionReset)
        {
            return 0;
        }
    }

    private static void Run(int ranks, Action<ControlLine> body) => Assert.All(RunEach(ranks, body), Assert.Null);

    private static Exception?[] RunEach(int ranks, Action<ControlLine> body)
    {
        using var store = new HashStore();
        return RankThreads.RunEach(ranks, rank =>
        {
            var meeting = new ControlMeeting(store, rank, ranks, [.. Enumerable.Range(0, ranks)], GroupOfThreads.Limit);
            Assert.Equal(Enumerable.Range(0, ranks).Select(other => $"I am {other}"), meeting.Introduce($"I am {rank}"));
            using var line = meeting.Connect(isOneMachine: rank % 2 == 0); // rank 0 decides
            body(line);
        });
    }
}
