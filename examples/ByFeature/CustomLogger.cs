// A logger of your own: implement ILogger and give it to Fabric. This one writes a line of JSON for each call.
//
// Added to the base example: the class JsonLinesLogger. Fabric calls it on rank 0 only, and turns tensors into numbers first. The file is opened
// at the first line, so that ranks that never write do not touch it.
using System.Text.Json;
using FabricSharp.Loggers;
using static TorchSharp.torch;
using static TorchSharp.torch.nn.functional;

namespace FabricSharp.Examples.ByFeature;

internal static class CustomLogger
{
    public static void Run(ExampleOptions options)
    {
        var path = Path.Combine(options.Output, "metrics.jsonl");
        var fabric = new Fabric(accelerator: "cpu", devices: options.Devices, loggers: [new JsonLinesLogger(path)]);
        fabric.Launch();
        Fabric.SeedEverything(42);
        var net = Clothes.Network();
        var (model, optimizer) = fabric.Setup(net, optim.Adam(net.parameters(), lr: 2e-3));
        using var images = Clothes.TrainingImages(options);
        using var train = fabric.SetupDataLoaders(Clothes.Batches(images, options));
        var step = 0;
        for (var epoch = 0; epoch < (options.Epochs ?? 1); epoch++)
            foreach (var batch in train)
            {
                using var scope = NewDisposeScope();
                optimizer.zero_grad();
                var loss = cross_entropy(model.call(batch["image"]), batch["label"]);
                fabric.Backward(loss);
                optimizer.step();
                fabric.Log("loss", loss.detach(), step++);
            }

        fabric.LogDict(new Dictionary<string, double> { ["accuracy"] = Clothes.TestAccuracy(fabric, net, options) }, step);
        fabric.Logger!.Finalize("success");
        if (!fabric.IsGlobalZero)
            return;
        var lines = File.ReadAllLines(path);
        Console.WriteLine($"{lines.Length} lines in {path}, the first and the last:\n{lines[0]}\n{lines[^1]}");
    }

    private sealed class JsonLinesLogger(string path) : ILogger
    {
        private StreamWriter? _writer;
        private long _calls;

        public string Name => Path.GetFileNameWithoutExtension(path);

        public string Version => "";

        public string? RootDirectory => Path.GetDirectoryName(path);

        public void LogMetrics(IReadOnlyDictionary<string, double> metrics, long? step = null) => Write(new { step = step ?? _calls++, metrics });

        public void LogHyperparameters(IReadOnlyDictionary<string, object?> parameters) => Write(new { parameters });

        public void Save() => _writer?.Flush();

        public void Finalize(string status)
        {
            _writer?.Dispose();
            _writer = null;
        }

        private void Write(object line)
        {
            if (_writer is null)
            {
                Directory.CreateDirectory(RootDirectory!);
                _writer = new StreamWriter(path);
            }

            _writer.WriteLine(JsonSerializer.Serialize(line));
        }
    }
}
