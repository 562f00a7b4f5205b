using FabricSharp.Checkpointing;
using FabricSharp.Data;
using FabricSharp.Precision;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Checkpointing;

/// <summary>Scalers, samplers and random number generators.</summary>
public class TrainingStateTests
{
    [Fact]
    public void Load_GradScaler_GoesOnWithScaleAndTracker()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        var scaler = new GradScaler(initScale: 1024, growthInterval: 10);
        scaler.LoadState(scaler.State with { GrowthTracker = 7 });
        fabric.Save(folder["c"], new() { ["scaler"] = scaler });
        var other = new GradScaler();
        fabric.Load(folder["c"], new() { ["scaler"] = other });
        Assert.Equal(scaler.State, other.State);
    }

    [Fact]
    public void Load_DistributedSampler_HasItsEpoch()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        var sampler = new DistributedSampler(10, 2, 1);
        sampler.SetEpoch(4);
        fabric.Save(folder["c"], new() { ["sampler"] = sampler });
        var other = new DistributedSampler(10, 2, 0);
        fabric.Load(folder["c"], new() { ["sampler"] = other });
        Assert.Equal(4, other.Epoch);
    }

    [Fact]
    public void Load_RandomState_RepeatsTheNumbersThatFollowedTheSave()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        using var own = new Generator(5);
        rand(3);
        rand(3, generator: own);
        fabric.Save(folder["c"], new() { ["random"] = new RandomState(own) });
        var expected = (Checkpoints.Fingerprint(rand(4)), Checkpoints.Fingerprint(rand(4, generator: own)));
        rand(100);
        own.manual_seed(9);
        fabric.Load(folder["c"], new() { ["random"] = new RandomState(own) });
        Assert.Equal(expected, (Checkpoints.Fingerprint(rand(4)), Checkpoints.Fingerprint(rand(4, generator: own))));
    }

    [Fact]
    public void Load_RandomStateOfOtherGenerators_SaysHowMany()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        using var own = new Generator(5);
        fabric.Save(folder["c"], new() { ["random"] = new RandomState(own) });
        Assert.Contains("of 1 generators besides TorchSharp's own, here are 0", Checkpoints.Fails(() => fabric.Load(folder["c"], new() { ["random"] = new RandomState() })).Message);
    }

    [Theory]
    [InlineData("""{"cpu":"AAAA","generators":[]}""")]
    [InlineData("""{"cpu":null,"generators":[]}""")]
    [InlineData("""{"cpu":"?","generators":[]}""")]
    [InlineData("""{"generators":[]}""")]
    [InlineData("[]")]
    public void PlanRestore_WhatIsNoState_IsACheckpointException(string json) =>
        Checkpoints.Fails(() => new RandomState().PlanRestore(System.Text.Json.JsonDocument.Parse(json).RootElement, "the state"));

    [Theory]
    [InlineData(8)]
    [InlineData(12)]
    [InlineData(16)]
    public void PlanRestore_CountersThatCannotBe_IsACheckpointExceptionAndNotTheEndOfTheProcess(int position)
    {
        var cpu = get_rng_state().data<byte>().ToArray();
        cpu[position + 1] = 0xff;
        var stored = System.Text.Json.JsonSerializer.SerializeToElement(new { cpu, generators = Array.Empty<byte[]>() });
        Assert.Contains("counters", Checkpoints.Fails(() => new RandomState().PlanRestore(stored, "the state")).Message);
    }

    [Fact]
    public void Load_KindsOfTheLoopThatDiffer_AreErrorsThatNameTheKey()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        fabric.Save(folder["c"], new() { ["a"] = 1, ["b"] = new GradScaler() });
        Assert.Contains("'a', but state[\"a\"] is a gradScaler", Checkpoints.Fails(() => fabric.Load(folder["c"], new() { ["a"] = new GradScaler() })).Message);
        Assert.Contains("holds a gradScaler as 'b', but state[\"b\"] is a random", Checkpoints.Fails(() => fabric.Load(folder["c"], new() { ["b"] = new RandomState() })).Message);
        Assert.Contains("holds a gradScaler as 'b'", Checkpoints.Fails(() => fabric.Load(folder["c"], new() { ["b"] = 3 })).Message);
    }

    [Fact]
    public void Load_GradScalerStateThatIsImpossible_ChangesNothing()
    {
        var entry = new StoredEntry("s", EntryKind.GradScaler, null, System.Text.Json.JsonSerializer.SerializeToElement(new { scale = -1.0, growthFactor = 2.0, backoffFactor = 0.5, growthInterval = 5, growthTracker = 0 }));
        Assert.Contains("scale must be a positive", Checkpoints.Fails(() => TrainingState.PlanLoad(entry, new GradScaler(), RankOf.One, "the state", _ => { })).Message);
    }
}
