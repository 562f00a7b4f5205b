using FabricSharp.DataParallel;
using FabricSharp.Modules;
using FabricSharp.Tests.DataParallel;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Gpu;

/// <summary>Data-parallel training steps on the GPUs that are there.</summary>
public class TrainingOnGpuTests
{
    [Theory]
    [InlineData(1, true)]
    [InlineData(1, false)]
    [InlineData(2, true)]
    [InlineData(2, false)]
    public void Gradients_OfEachRank_AreTheAverage(int ranks, bool hooks)
    {
        Gpus.Require(ranks);
        Gpus.Run(ranks, (group, device) =>
        {
            using var model = new Branchy();
            ModulePlacement.Move(model, device, null);
            using var reducer = new GradientReducer(model, group, new DDPOptions { FindUnusedParameters = true, UsesGradientHooks = hooks }, ModuleTensors.Buffers(model));
            for (var step = 0; step < 3; step++)
            {
                Assert.True(model.BranchA.weight is { } weight && weight.device_type == device.type);
                foreach (var parameter in model.parameters())
                    parameter.grad = null;
                reducer.BeforeForward();
                model.Take = "ab";
                using var x = full([5, 4], group.Rank + 1.0, ScalarType.Float32, device);
                using var loss = model.call(x).pow(2).mean();
                reducer.BeforeBackward();
                loss.backward();
                reducer.AfterBackward();
                reducer.BeforeStep();
                var gradient = model.BranchA.weight!.grad!;
                var all = zeros([ranks, .. gradient.shape], ScalarType.Float32, device);
                group.AllGather(all, gradient).Wait();
                for (var rank = 1; rank < ranks; rank++)
                    Assert.True(all[rank].equal(all[0]).all().cpu().item<bool>(), $"rank {rank}'s gradient differs in step {step}");
            }

        });
    }

    [Fact]
    public void Channel_ReductionsAndExchanges_Work()
    {
        Gpus.Require(1);
        Gpus.Run(1, (group, device) =>
        {
            using var channel = group.CreateGradientChannel("test", 64);
            using var buffer = channel.Allocate(4096);
            using var flat = buffer.AsTensor(ScalarType.Float32);
            flat.fill_(3);
            channel.Reduce(buffer, 256, 100, ScalarType.Float32, 0.5).Wait();
            Assert.Equal(3 * (1024 - 100) + 150, flat.sum().cpu().item<float>());
            var all = new byte[3];
            channel.Exchange([1, 2, 3], all);
            Assert.Equal([1, 2, 3], all);
        });
    }

    [Theory]
    [InlineData("32-true")]
    [InlineData("bf16-mixed")]
    [InlineData("16-mixed")]
    [InlineData("bf16-true")]
    public void Fabric_OnOneGpu_Trains(string precision)
    {
        Gpus.Require(1);
        Assert.SkipWhen(Gpus.AreSimulated, "Fabric itself takes a real GPU.");
        using var fabric = new Fabric(accelerator: "cuda", strategy: "ddp_find_unused_parameters_true", devices: 1, precision: precision);
        fabric.Launch();
        using var scope = NewDisposeScope();
        using var plain = new Branchy();
        var optimizer = optim.SGD(plain.parameters(), 0.05);
        var (model, stepper) = fabric.Setup(plain, optimizer);
        var x = randn([64, 4], device: fabric.Device);
        var target = x.sum(1, keepdim: true);
        var losses = new List<double>();
        for (var step = 0; step < 30; step++)
        {
            stepper.zero_grad();
            var loss = (model.call(x).to(ScalarType.Float32) - target).pow(2).mean();
            fabric.Backward(loss);
            stepper.step();
            losses.Add(loss.cpu().item<float>());
        }

        Assert.Equal("nccl", fabric.Strategy.Group!.Backend);
        Assert.True(losses[^1] < losses[0] / 2, $"from {losses[0]} to {losses[^1]}");
    }
}
