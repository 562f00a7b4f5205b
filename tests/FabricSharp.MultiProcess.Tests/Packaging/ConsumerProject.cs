using System.Globalization;

namespace FabricSharp.MultiProcess.Tests.Packaging;

/// <summary>The packages, made once, and two projects of a user who has installed them: a program, and tests. All lie in a temporary folder.</summary>
public sealed class ConsumerProject : IAsyncLifetime
{
    private readonly string _root = Directory.CreateTempSubdirectory("fabricsharp-package-").FullName;
    private readonly string _version = $"0.1.0-test.{DateTime.UtcNow.ToString("yyyyMMddHHmmss", CultureInfo.InvariantCulture)}.{Environment.ProcessId}";

    internal string Folder => Path.Combine(_root, "app");

    /// <summary>A project with FabricSharp.Testing, without a test framework.</summary>
    internal string TestFolder => Path.Combine(_root, "tests");

    private static string PackageCache =>
        Environment.GetEnvironmentVariable("NUGET_PACKAGES") ?? Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".nuget", "packages");

    public async ValueTask InitializeAsync()
    {
        foreach (var library in new[] { "FabricSharp", "FabricSharp.Testing" })
            await DotnetAsync("pack", Path.Combine(Programs.RepositoryRoot, "src", library), "-c", Programs.Configuration, $"-p:Version={_version}", "-o", Path.Combine(_root, "feed"));
        Write(Folder, "app", "FabricSharp", """
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
        Write(TestFolder, "tests", "FabricSharp.Testing", """
            using FabricSharp;
            using FabricSharp.Testing;
            using static TorchSharp.torch;

            if (args.Length == 1)
            {
                using var fabric = new Fabric(accelerator: "cpu", devices: "auto", strategy: "ddp");
                fabric.Launch();
                Console.WriteLine($"sum {fabric.AllReduce(fabric.GlobalRank + 1.0, "sum")}");
                return;
            }

            var gradients = RankThreads.Run(2, fabric =>
            {
                var net = nn.Linear(1, 1, hasBias: false);
                var model = fabric.Setup(net);
                fabric.Backward(model.call(full([1, 1], fabric.GlobalRank + 1.0)).sum());
                return net.weight.grad!.item<float>();
            });
            Console.WriteLine($"threads {string.Join(' ', gradients)}");
            var processes = await RankProcesses.RunAsync(typeof(Program).Assembly.Location, ["rank"], 2);
            Console.WriteLine($"processes {string.Join(' ', processes.Select(process => $"{process.ExitCode} {process.Output.Trim()}"))}");
            """);
    }

    public ValueTask DisposeAsync()
    {
        Directory.Delete(_root, recursive: true);
        foreach (var library in new[] { "fabricsharp", "fabricsharp.testing" })
            if (Path.Combine(PackageCache, library, _version) is var cached && Directory.Exists(cached))
                Directory.Delete(cached, recursive: true);
        return ValueTask.CompletedTask;
    }

    private void Write(string folder, string name, string package, string program)
    {
        Directory.CreateDirectory(folder);
        File.WriteAllText(Path.Combine(folder, $"{name}.csproj"), $"""
            <Project Sdk="Microsoft.NET.Sdk">
              <PropertyGroup>
                <OutputType>Exe</OutputType>
                <TargetFramework>net10.0</TargetFramework>
                <ImplicitUsings>enable</ImplicitUsings>
                <RestoreAdditionalProjectSources>{Path.Combine(_root, "feed")}</RestoreAdditionalProjectSources>
              </PropertyGroup>
              <ItemGroup>
                <PackageReference Include="{package}" Version="{_version}" />
                <PackageReference Include="TorchSharp-cpu" Version="0.107.0" />
              </ItemGroup>
            </Project>
            """);
        File.WriteAllText(Path.Combine(folder, "Program.cs"), program);
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
