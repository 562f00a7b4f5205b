using static TorchSharp.torchvision;

namespace FabricSharp.Examples.FashionMnist;

/// <summary>Finds the data: the folder that was named, Debian's package, or a download.</summary>
internal static class FashionMnistFiles
{
    private const string DebianFolder = "/usr/share/datasets/fashion-mnist";
    private static readonly string[] Names = ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"];

    /// <exception cref="FileNotFoundException">None of the three has it.</exception>
    public static string Find(string? chosen)
    {
        if (chosen is not null)
            return HasAll(chosen) ? chosen : throw Missing($"--data {chosen} lacks {string.Join(", ", Names.Where(name => !File.Exists(Path.Combine(chosen, name))))}.", null);
        if (HasAll(DebianFolder))
            return DebianFolder;
        return Download();
    }

    private static string Download()
    {
        var root = Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData, Environment.SpecialFolderOption.Create), "FabricSharp", "datasets");
        try
        {
            if (FolderBelow(root) is { } earlier)
                return earlier;
            Directory.CreateDirectory(root);
            Console.Error.WriteLine($"Downloading Fashion-MNIST to {root} …");
            foreach (var training in new[] { true, false })
                datasets.FashionMNIST(root, training, download: true).Dispose();
            return FolderBelow(root) ?? throw Missing($"The download to {root} did not bring all files.", null);
        }
        catch (Exception e) when (e is not FileNotFoundException)
        {
            throw Missing($"The download failed: {e.GetBaseException().Message}", e);
        }
    }

    private static string? FolderBelow(string root) => Directory.Exists(root)
        ? Directory.EnumerateFiles(root, Names[0], SearchOption.AllDirectories).Select(file => Path.GetDirectoryName(file)!).FirstOrDefault(HasAll)
        : null;

    private static bool HasAll(string folder) => Names.All(name => File.Exists(Path.Combine(folder, name)));

    private static FileNotFoundException Missing(string reason, Exception? inner) => new(
        $"Fashion-MNIST was not found. {reason} Three ways to have it:\n" +
        $"  --data FOLDER with {string.Join(", ", Names)}\n" +
        $"  Debian's package: apt-get install dataset-fashion-mnist (in {DebianFolder})\n" +
        "  a connection to the internet, for TorchVision's download", inner);
}
