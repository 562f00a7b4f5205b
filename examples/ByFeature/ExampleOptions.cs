namespace FabricSharp.Examples.ByFeature;

/// <summary>What the command line asks for.</summary>
internal sealed record ExampleOptions(string Devices, int Images, int? Epochs, string? Data, string Output, string Precision);
