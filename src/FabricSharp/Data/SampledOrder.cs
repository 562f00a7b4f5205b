namespace FabricSharp.Data;

/// <summary>The order of a <see cref="DistributedSampler"/>, be it ours or one that the user gave the loader.</summary>
internal sealed class SampledOrder(DistributedSampler sampler) : ItemOrder
{
    public override long Count => sampler.Count;

    public override DistributedSampler Sampler => sampler;

    public override int Replicas => sampler.Replicas;

    protected override IEnumerable<long> Draw(int epoch)
    {
        sampler.SetEpoch(epoch);
        return sampler;
    }
}
