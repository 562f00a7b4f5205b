using System.Reflection;
using FabricSharp.Collectives;
using FabricSharp.DataParallel;
using FabricSharp.Strategies;
using FabricSharp.Testing;
using FabricSharp.Tests.Collectives.Cases;
using FabricSharp.Tests.DataParallel;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Testing;

public class GroupRecordingTests
{
    [Fact]
    public void Calls_OfAUser_AreRecordedInOrder() => RankThreads.RunGroup(2, group =>
    {
        var recording = new GroupRecording();
        var recorded = recording.Over(group);
        recorded.AllReduce(ones(3), ReduceOp.Max).Wait();
        recorded.Broadcast(ones([2, 2], ScalarType.Float64), 1).Wait();
        recorded.Barrier().Wait();
        Assert.Equal([GroupOperation.AllReduce, GroupOperation.Broadcast, GroupOperation.Barrier], recording.Calls.Select(call => call.Operation));
        Assert.Equal([0, 1, 2], recording.Calls.Select(call => call.Number));
        var (first, second) = (recording.Calls[0], recording.Calls[1]);
        Assert.Equal((ScalarType.Float32, 3, null, ReduceOp.Max), (first.Type, first.Elements, first.Peer, first.Reduction));
        Assert.Equal((ScalarType.Float64, 4, 1, null), (second.Type, second.Elements, second.Peer, second.Reduction));
        recording.Clear();
        Assert.Empty(recording.Calls);
        Assert.ThrowsAny<ArgumentException>(() => recorded.Broadcast(ones(1), 2));
        Assert.Empty(recording.Calls); // refused before anything was sent
    });

    [Fact]
    public void Groups_MadeOfARecordedOne_AreRecordedToo() => RankThreads.RunGroup(3, group =>
    {
        var recording = new GroupRecording();
        using var child = recording.Over(group).NewGroup([2, 0]);
        Assert.Equal(group.Rank == 1, child is null);
        if (child is null)
            return;
        child.Barrier().Wait();
        Assert.Equal(GroupOperation.Barrier, recording.Calls[^1].Operation);
        Assert.Equal([2, 0], recording.Calls[^1].Ranks);
    });

    /// <summary>Every promise of the back ends, through the recorder.</summary>
    [Fact]
    public void Group_Recorded_DoesWhatThePlainOneDoes() => RankThreads.RunGroup(3, group =>
    {
        var recorded = new GroupRecording().Over(group);
        foreach (var (_, body) in CollectiveCases.All)
            body(recorded);
    });

    [Fact]
    public void Train_WithFabricOverARecordedGroup_ShowsWhatIsSent()
    {
        var recordings = new GroupRecording[2];
        var strategy = new DDPStrategy(findUnusedParameters: true).WithGroup(group => (recordings[group.Rank] = new GroupRecording()).Over(group));
        RankThreads.Run(2, fabric =>
        {
            var net = new Branchy();
            var (model, optimizer) = fabric.Setup(net, optim.SGD(net.parameters(), 0.1));
            var recording = recordings[fabric.GlobalRank];
            recording.Clear();
            net.Take = "a";
            fabric.Backward(model.call(ones(1, 4)).sum());
            optimizer.step();
            var sent = recording.Calls.Where(call => call.Operation == GroupOperation.GradientReduce).Sum(call => call.Elements);
            Assert.InRange(sent, net.Trunk.parameters().Concat(net.BranchA.parameters()).Sum(p => p.numel()), net.parameters().Sum(p => p.numel()) - 1); // not what nobody used
            Assert.Contains(recording.Calls, call => call.Operation == GroupOperation.GradientExchange);
        }, strategy);
    }

    /// <summary>A member that is not overridden would go past the recording, or answer for another group.</summary>
    [Theory]
    [InlineData(typeof(ProcessGroup), "FabricSharp.Testing.InterceptedProcessGroup")]
    [InlineData(typeof(GradientReducer), "FabricSharp.Testing.InterceptedGradientChannel")]
    public void Members_ThatCanBeOverridden_Are(Type ofLibrary, string decorator)
    {
        var type = typeof(GroupRecording).Assembly.GetType(decorator, throwOnError: true)!;
        var methods = ofLibrary.Assembly.GetType(type.BaseType!.FullName!)!.GetMethods(BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic)
            .Where(method => method.IsVirtual && !method.IsFinal && method.DeclaringType == type.BaseType).ToList();
        Assert.NotEmpty(methods);
        Assert.All(methods, method => Assert.True(
            type.GetMethod(method.Name, BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic, [.. method.GetParameters().Select(p => p.ParameterType)])!.DeclaringType == type, $"{method} is not passed on."));
    }
}
