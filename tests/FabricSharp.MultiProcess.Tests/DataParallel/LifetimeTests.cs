namespace FabricSharp.MultiProcess.Tests.DataParallel;

/// <summary>Training does not use more and more memory.</summary>
public sealed class LifetimeTests
{
    [Theory]
    [InlineData("on", "32-true")]
    [InlineData("off", "32-true")]
    [InlineData("on", "bf16-true")]
    [InlineData("on", "scaled")]
    public async Task Train_ThousandSteps_KeepsNoTensorAndNoMemory(string hooks, string precision)
    {
        // A small first generation: otherwise the collector lets the heap grow for a long while before it looks.
        var result = await RunningProgram.RunWorkerAsync($"leak flag=true precision={precision} warm=1000 steps=1000", null, ("FABRIC_GRADIENT_HOOKS", hooks), ("DOTNET_GCgen0size", "400000"));
        foreach (var report in result.ReportsOf(2))
        {
            Assert.Equal(0, report.GetProperty("tensors").GetInt64());
            Assert.InRange(report.GetProperty("memory").GetInt64(), long.MinValue, 10 << 20);
        }
    }
}
