using System.Globalization;

namespace FabricSharp.MultiProcess.Tests.Packaging;

/// <summary>The package, made once, and a console project of a user who has installed it; both lie in a temporary folder.</summary>
public sealed class ConsumerProject : IAsyncLifetime
{
    private readonly string _root = Directory.CreateTempSubdirectory("fabricsharp-package-").FullName;
    private readonly string _version = $"0.1.0-test.{DateTime.UtcNow.ToString("yyyyMMddHHmmss", CultureInfo.InvariantCulture)}.{Environment.ProcessId}";

    internal string Folder => Path.Combine(_root, "app");

    private static string PackageCache =>
        Environment.GetEnvironmentVariable("NUGET_PACKAGES") ?? Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".nuget", "packages");

    public async ValueTask InitializeAsync()
    {
        await DotnetAsync("pack", Path.Combine(Programs.RepositoryRoot, "src", "FabricSharp"), "-c", Programs.Configuration, $"-p:Version={_version}", "-o", Path.Combine(_root, "feed"));
        Directory.CreateDirectory(Folder);
        File.WriteAllText(Path.Combine(Folder, "app.csproj"), $"""
            <Project Sdk="Microsoft.NET.Sdk">
              <PropertyGroup>
                <OutputType>Exe</OutputType>
                <TargetFramework>net10.0</TargetFramework>
                <ImplicitUsings>enable</ImplicitUsings>
                <RestoreAdditionalProjectSources>{Path.Combine(_root, "feed")}</RestoreAdditionalProjectSources>
              </PropertyGroup>
              <ItemGroup>
                <PackageReference Include="FabricSharp" Version="{_version}" />
                <PackageReference Include="TorchSharp-cpu" Version="0.107.0" />
              </ItemGroup>
            </Project>
            """);
        File.WriteAllText(Path.Combine(Folder, "Program.cs"), """
            using FabricSharp;
            using static TorchSharp.torch;

            var fabric = new Fabric(accelerator: "cpu", devices: 2, strategy: "ddp_find_unused_parameters_true");
            fabric.Launch();
            Fabric.SeedEverything(42);
            var net = nn.Linear(4, 1);
            var (model, optimizer) = fabric.Setup(net, optim.SGD(net.parameters(), 0.1));
            for (var step = 0; step < 5; step++)
            {
                optimizer.zero_grad();
                var loss = model.call(randn(8, 4)).pow(2).mean();
                fabric.Backward(loss);
                optimizer.step();
            }

            Console.WriteLine($"rank {fabric.GlobalRank} of {fabric.WorldSize}: {net.weight.sum().item<float>()}");
            """);
    }

    public ValueTask DisposeAsync()
    {
        Directory.Delete(_root, recursive: true);
        var cached = Path.Combine(PackageCache, "fabricsharp", _version);
        if (Directory.Exists(cached))
            Directory.Delete(cached, recursive: true);
        return ValueTask.CompletedTask;
    }

    /// <summary>Runs <c>dotnet</c> with <paramref name="arguments"/>, which must succeed.</summary>
    internal static async Task<ProgramResult> DotnetAsync(params string[] arguments)
    {
        using var program = new RunningProgram("dotnet", arguments);
        var result = await program.EndAsync(TimeSpan.FromMinutes(5));
        Assert.True(result.ExitCode == 0, $"dotnet {string.Join(' ', arguments)}\n{result}");
        return result;
    }
}
