namespace FabricSharp.Precision;

/// <summary>What a <see cref="GradScaler"/> has to remember between runs. Plain numbers: writes and reads as JSON.</summary>
/// <param name="Scale">The factor of the loss.</param>
/// <param name="GrowthFactor">What the scale is multiplied with after enough good steps in a row.</param>
/// <param name="BackoffFactor">What it is multiplied with after a skipped step.</param>
/// <param name="GrowthInterval">How many good steps in a row are enough.</param>
/// <param name="GrowthTracker">How many there have been.</param>
public sealed record GradScalerState(double Scale, double GrowthFactor, double BackoffFactor, int GrowthInterval, int GrowthTracker);
