namespace FabricSharp.Precision;

/// <summary><c>32-true</c>, the default: nothing is converted, at no cost.</summary>
public sealed class FullPrecision : PrecisionPlugin
{
    /// <inheritdoc/>
    public override string Name => "32-true";

    internal override bool LeavesForwardAlone => true;

    /// <summary>Does nothing.</summary>
    public override IDisposable ForwardContext() => NoContext.Instance;
}
