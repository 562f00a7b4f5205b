using FabricSharp.Accelerators;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Configuration;

public class DeviceSelectionTests
{
    public static TheoryData<string, int?, int[]?> Texts => new()
    {
        { "auto", null, null },
        { " AUTO ", null, null },
        { "2", 2, null },
        { " 2 ", 2, null },
        { "-1", -1, null },
        { "0,1", null, [0, 1] },
        { "1,", null, [1] },
        { "2,", null, [2] },
        { " 0 , 2 ", null, [0, 2] },
    };

    public static TheoryData<string> BadTexts => ["", " ", ",", "0", "-2", "1.5", "two", "0, x", "-1,0", "0,-1", "99999999999"];

    [Theory]
    [MemberData(nameof(Texts))]
    public void FromText_Valid_IsCountOrNumbers(string text, int? count, int[]? indices)
    {
        DeviceSelection selection = text;
        Assert.Equal(count, selection.Count);
        Assert.Equal(indices, selection.Indices);
        Assert.Equal(count is null && indices is null, selection.IsAuto);
    }

    [Theory]
    [MemberData(nameof(BadTexts))]
    public void FromText_Invalid_NamesArgumentAndAcceptedForms(string text)
    {
        var e = Assert.Throws<ArgumentException>(() => (DeviceSelection)text);
        Assert.Equal("devices", e.ParamName);
        Assert.Contains("value is not a valid input", e.Message);
        Assert.Contains("\"auto\"", e.Message);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-2)]
    [InlineData(int.MinValue)]
    public void FromNumber_Invalid_ShowsTheValue(int count)
    {
        var e = Assert.Throws<ArgumentException>(() => (DeviceSelection)count);
        Assert.Contains($"`Fabric(devices={count})`", e.Message);
    }

    [Fact]
    public void FromNumbers_InvalidLists_AreRefused()
    {
        Assert.Contains("[]", Assert.Throws<ArgumentException>(() => (DeviceSelection)Array.Empty<int>()).Message);
        Assert.Contains("[0, -1]", Assert.Throws<ArgumentException>(() => (DeviceSelection)new[] { 0, -1 }).Message);
        Assert.Contains("must be unique", Assert.Throws<ArgumentException>(() => (DeviceSelection)new[] { 0, 0 }).Message);
        Assert.Contains("must be unique", Assert.Throws<ArgumentException>(() => (DeviceSelection)"1,1").Message);
        Assert.Throws<ArgumentNullException>(() => (DeviceSelection)(int[])null!);
        Assert.Throws<ArgumentNullException>(() => (DeviceSelection)(string)null!);
    }

    [Fact]
    public void Equals_SameNumbersInAnotherList_IsTrue()
    {
        DeviceSelection a = "0,1", b = new[] { 0, 1 }, c = new[] { 1, 0 };
        Assert.Equal(a, b);
        Assert.Equal(a.GetHashCode(), b.GetHashCode());
        Assert.NotEqual(a, c);
        Assert.NotEqual(a, (DeviceSelection)2);
        Assert.Equal(DeviceSelection.Auto, (DeviceSelection)"auto");
    }

    [Fact]
    public void FromNumbers_ArrayChangedLater_StaysAsGiven()
    {
        var numbers = new[] { 0, 1 };
        DeviceSelection selection = numbers;
        numbers[0] = 7;
        Assert.Equal([0, 1], selection.Indices);
    }

    [Theory]
    [InlineData("auto", "auto")]
    [InlineData("3", "3")]
    [InlineData("0,2", "[0, 2]")]
    public void ToString_Always_ShowsTheSelection(string text, string expected) => Assert.Equal(expected, ((DeviceSelection)text).ToString());

    [Fact]
    public void Cpu_Number_IsThatManyRanks()
    {
        Assert.Equal([0], new CpuAccelerator().Resolve(DeviceSelection.Auto));
        Assert.Equal([0, 1, 2], new CpuAccelerator().Resolve(3));
        Assert.Equal([0, 1], new CpuAccelerator().Resolve("2"));
    }

    [Fact]
    public void Cpu_AllOrNumbers_AreRefused()
    {
        foreach (var devices in new DeviceSelection[] { -1, "0,1", new[] { 0 } })
        {
            var e = Assert.Throws<ArgumentException>(() => new CpuAccelerator().Resolve(devices));
            Assert.Equal("devices", e.ParamName);
            Assert.Contains("should be an int > 0", e.Message);
            Assert.Contains($"devices={devices}", e.Message);
        }
    }

    [Fact]
    public void Mps_OneDeviceOnly_ElseRefused()
    {
        var mps = new MpsAccelerator();
        foreach (var devices in new DeviceSelection[] { DeviceSelection.Auto, 1, -1, "0,", new[] { 0 } })
            Assert.Equal([0], mps.Resolve(devices));
        foreach (var devices in new DeviceSelection[] { 2, "0,1", "1," })
            Assert.Contains($"devices={devices}", Assert.Throws<ArgumentException>(() => mps.Resolve(devices)).Message);
    }

    [Fact]
    public void Cuda_MoreThanThere_ShowsRequestedAndAvailable()
    {
        var there = cuda.is_available() ? cuda.device_count() : 0;
        Assert.SkipWhen(there > 7, "Every number up to 7 exists here.");
        var e = Assert.Throws<ArgumentException>(() => new CudaAccelerator().Resolve("7,"));
        Assert.Contains("You requested gpu: [7]", e.Message);
        Assert.Contains($"your machine only has: [{string.Join(", ", Enumerable.Range(0, there))}]", e.Message);
    }
}
