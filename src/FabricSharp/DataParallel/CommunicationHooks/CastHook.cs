using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>Has another hook average the gradients in another data type.</summary>
internal sealed class CastHook(string name, ScalarType type, CommunicationHook inner) : CommunicationHook
{
    public override string Name => inner is AllReduceHook ? name : $"{name}({inner.Name})";

    public override Tensor Reduce(in CommunicationBucket bucket)
    {
        if (bucket.Buffer.dtype == type)
            return inner.Reduce(bucket);
        var compressed = bucket.Buffer.to(type);
        var result = inner.Reduce(new CommunicationBucket(bucket.Index, bucket.IsLast, compressed, Views(bucket, compressed), bucket.Parameters, bucket.Group));
        return bucket.Buffer.copy_(result);
    }

    public override CommunicationHook ForModel() => new CastHook(name, type, inner.ForModel());

    private static List<Tensor> Views(in CommunicationBucket bucket, Tensor flat)
    {
        var views = new List<Tensor>();
        var offset = 0L;
        foreach (var gradient in bucket.Gradients)
        {
            views.Add(flat.as_strided(gradient.shape, gradient.stride(), offset));
            offset += gradient.numel();
        }

        return views;
    }
}
