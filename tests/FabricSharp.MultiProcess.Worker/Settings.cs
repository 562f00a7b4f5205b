using System.Globalization;
using FabricSharp.DataParallel;
using FabricSharp.Precision;
using FabricSharp.Strategies;

namespace FabricSharp.MultiProcess.Worker;

/// <summary>What a test asks of a scenario, as <c>name=value</c> arguments.</summary>
internal sealed class Settings(IReadOnlyDictionary<string, string> values)
{
    public static Settings Parse(IEnumerable<string> arguments) => new(arguments
        .Select(argument => argument.Split('=', 2))
        .Where(pair => pair.Length == 2)
        .ToDictionary(pair => pair[0], pair => pair[1]));

    public string Text(string name, string otherwise = "") => values.GetValueOrDefault(name, otherwise);

    public int Number(string name, int otherwise) => values.TryGetValue(name, out var text) ? int.Parse(text, CultureInfo.InvariantCulture) : otherwise;

    public double Real(string name, double otherwise) => values.TryGetValue(name, out var text) ? double.Parse(text, CultureInfo.InvariantCulture) : otherwise;

    public bool Flag(string name) => values.GetValueOrDefault(name) == "true";

    /// <summary>A launched Fabric. <c>ranks</c> is what devices takes. <c>strategy</c> is a registered name, or made of <c>flag</c>, <c>static</c>, <c>views</c>, <c>cap</c>, <c>hook</c>, <c>backend</c>, <c>timeout</c>;
    /// <c>precision</c> is a name, or <c>scaled</c>: 16-mixed, which has no name on the CPU.</summary>
    public Fabric Launch()
    {
        var fabric = MakeFabric();
        fabric.Launch();
        return fabric;
    }

    /// <summary>The Fabric of <see cref="Launch"/>, not launched; with <c>threads</c> its ranks will be threads.</summary>
    public Fabric MakeFabric() => new(accelerator: "cpu", devices: Text("ranks", "2"), numNodes: Number("nodes", 1), strategy: Strategy(), precision: Precision());

    /// <summary>The same settings but for some.</summary>
    public Settings With(params (string Name, string Value)[] others) =>
        new(values.Where(pair => others.All(other => other.Name != pair.Key)).Concat(others.Select(other => KeyValuePair.Create(other.Name, other.Value))).ToDictionary());

    private PrecisionChoice? Precision() => Text("precision") switch
    {
        "" => null,
        "scaled" => new MixedPrecision("16-mixed", TorchSharp.DeviceType.CPU),
        var name => name,
    };

    private StrategyChoice Strategy() => values.TryGetValue("strategy", out var name)
        ? name
        : new DDPStrategy(
            findUnusedParameters: Flag("flag"),
            staticGraph: Flag("static"),
            gradientAsBucketView: Text("views", "true") == "true",
            bucketCapMb: Real("cap", 25),
            processGroupBackend: values.GetValueOrDefault("backend"),
            timeout: TimeSpan.FromSeconds(Real("timeout", 30)),
            startMethod: Flag("threads") ? StartMethod.Notebook : StartMethod.Popen)
        {
            CommunicationHook = Hook(),
        };

    public CommunicationHook? Hook() => Text("hook") switch
    {
        "" => null,
        "allreduce" => CommunicationHook.AllReduce,
        "fp16" => CommunicationHook.Float16(),
        "bf16" => CommunicationHook.BFloat16(),
        "powersgd" => new PowerSgdHook(rank: Number("rank", 1), startIteration: Number("start", 2)),
        var name => throw new ArgumentException($"Unknown hook '{name}'."),
    };
}
