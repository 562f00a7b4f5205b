namespace FabricSharp.Diagnostics;

/// <summary>What one pass through a model costs.</summary>
/// <param name="Forward">Floating-point operations of the forward pass.</param>
/// <param name="Backward">Those of the backward pass; 0 when it was not asked for.</param>
/// <param name="Uncounted">Modules whose own matrices were not counted, as <c>name (type)</c>: the true number is higher.</param>
public sealed record FlopCount(double Forward, double Backward, IReadOnlyList<string> Uncounted)
{
    /// <summary>Forward and backward.</summary>
    public double Total => Forward + Backward;
}
