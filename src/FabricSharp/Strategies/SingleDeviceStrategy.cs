namespace FabricSharp.Strategies;

/// <summary>One process, one device: nothing is shared, nothing needs launching.</summary>
public sealed class SingleDeviceStrategy : Strategy
{
    /// <inheritdoc/>
    public override string Name => "single_device";

    /// <inheritdoc/>
    public override bool IsDistributed => false;
}
