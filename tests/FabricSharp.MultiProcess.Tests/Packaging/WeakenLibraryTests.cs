namespace FabricSharp.MultiProcess.Tests.Packaging;

/// <summary>
/// The build targets of the package, on a project that has nothing but a library: TorchSharp's, damaged ones, one that is done already.
/// The library that was given must never change.
/// </summary>
public sealed class WeakenLibraryTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("fabricsharp-weaken-").FullName;

    private string Given => Path.Combine(_folder, "given", "libLibTorchSharp.so");

    private string Taken => Path.Combine(_folder, "obj", "FabricSharp", "libLibTorchSharp.so");

    /// <summary>As it came with TorchSharp's package.</summary>
    private static byte[] Original { get; } = File.ReadAllBytes(Directory.GetFiles(
        Path.Combine(Environment.GetEnvironmentVariable("NUGET_PACKAGES") ?? Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".nuget", "packages"), "torchsharp", "0.107.0"),
        "libLibTorchSharp.so", SearchOption.AllDirectories).Single());

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task Build_TorchSharpsLibrary_TakesACopyThatDiffersInOneFlag()
    {
        var output = await BuildAsync(Original);
        Assert.Contains($"taken: {Taken}", output, StringComparison.Ordinal);
        var copy = File.ReadAllBytes(Taken);
        Assert.Equal(Original.Length, copy.Length);
        var changed = Assert.Single(Enumerable.Range(0, copy.Length), i => copy[i] != Original[i]);
        Assert.Equal(0, Original[changed]);
        Assert.Equal(2, copy[changed]); // VER_FLG_WEAK
    }

    [Fact]
    public async Task Build_Twice_LeavesTheCopyAsItIs()
    {
        await BuildAsync(Original);
        var written = File.GetLastWriteTimeUtc(Taken);
        var output = await BuildAsync(null);
        Assert.Equal(written, File.GetLastWriteTimeUtc(Taken));
        Assert.Contains($"taken: {Taken}", output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Build_WeakenedAlready_CopiesItUnchanged()
    {
        await BuildAsync(Original);
        var weakened = File.ReadAllBytes(Taken);
        await BuildAsync(weakened);
        Assert.Equal(weakened, File.ReadAllBytes(Taken));
    }

    [Fact]
    public async Task Build_SwitchedOff_TakesTheOriginal()
    {
        var output = await BuildAsync(Original, "-p:FabricSharpWeakenLibstdcxx=false");
        Assert.Contains($"taken: {Given}", output, StringComparison.Ordinal);
        Assert.False(File.Exists(Taken));
    }

    [Theory]
    [InlineData("text", "It is no ELF file.")]
    [InlineData("empty", "It is no ELF file.")]
    [InlineData("half", "behind the end of the file.")]
    [InlineData("32-bit", "It is no 64-bit little-endian ELF file.")]
    public async Task Build_DamagedLibrary_WarnsAndTakesTheOriginal(string kind, string reason)
    {
        var damaged = kind switch
        {
            "text" => "not a library at all, but long enough to have a header in it: 0123456789"u8.ToArray(),
            "empty" => [],
            "half" => Original[..(Original.Length / 2)],
            _ => [.. Original[..4], 1, .. Original[5..]],
        };
        var output = await BuildAsync(damaged);
        Assert.Contains("warning FABRIC0001", output, StringComparison.Ordinal);
        Assert.Contains(reason, output, StringComparison.Ordinal);
        Assert.Contains($"taken: {Given}", output, StringComparison.Ordinal);
        Assert.Equal(damaged, File.ReadAllBytes(Given));
    }

    private async Task<string> BuildAsync(byte[]? library, params string[] options)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(Given)!);
        if (library is not null)
            File.WriteAllBytes(Given, library);
        var before = File.ReadAllBytes(Given);
        var project = Path.Combine(_folder, "test.proj");
        File.WriteAllText(project, $"""
            <Project>
              <PropertyGroup><IntermediateOutputPath>{_folder}/obj/</IntermediateOutputPath></PropertyGroup>
              <Target Name="ResolvePackageAssets"><ItemGroup><NativeCopyLocalItems Include="{Given}" /></ItemGroup></Target>
              <Import Project="{Path.Combine(Programs.RepositoryRoot, "src", "FabricSharp", "buildTransitive", "FabricSharp.targets")}" />
              <Target Name="Show" DependsOnTargets="ResolvePackageAssets"><Message Importance="high" Text="taken: @(NativeCopyLocalItems)" /></Target>
            </Project>
            """);
        var result = await ConsumerProject.DotnetAsync(["msbuild", project, "-t:Show", "-nologo", .. options]);
        Assert.Equal(before, File.ReadAllBytes(Given));
        return result.Output;
    }
}
