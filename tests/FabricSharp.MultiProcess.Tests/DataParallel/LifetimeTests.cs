namespace FabricSharp.MultiProcess.Tests.DataParallel;

/// <summary>Training does not use more and more memory.</summary>
public sealed class LifetimeTests
{
    [Theory]
    [InlineData("on")]
    [InlineData("off")]
    public async Task Train_ThousandSteps_KeepsNoTensorAndNoMemory(string hooks)
    {
        // A small first generation: otherwise the collector lets the heap grow for a long while before it looks.
        var result = await RunningProgram.RunWorkerAsync("leak flag=true warm=1000 steps=1000", null, ("FABRIC_GRADIENT_HOOKS", hooks), ("DOTNET_GCgen0size", "400000"));
        foreach (var report in result.ReportsOf(2))
        {
            Assert.Equal(0, report.GetProperty("tensors").GetInt64());
            Assert.InRange(report.GetProperty("memory").GetInt64(), long.MinValue, 10 << 20);
        }
    }
}
