using static TorchSharp.torch;
using static TorchSharp.torch.utils.data;

namespace FabricSharp.Examples.FashionMnist;

/// <summary>28 × 28 grey images of ten kinds of clothes, as <c>image</c> (1, 28, 28), normalised float32, and <c>label</c>, int64.</summary>
internal sealed class FashionMnistDataset : Dataset
{
    private const float Mean = 0.2860f, Deviation = 0.3530f; // of the training images

    private readonly Tensor _images, _labels;

    private FashionMnistDataset(Tensor images, Tensor labels)
    {
        _images = images;
        _labels = labels;
    }

    public override long Count => _labels.shape[0];

    public static FashionMnistDataset Read(string folder, bool training)
    {
        using var scope = NewDisposeScope();
        var name = training ? "train" : "t10k";
        var pixels = IdxFile.Read(Path.Combine(folder, $"{name}-images-idx3-ubyte.gz"), 3);
        var kinds = IdxFile.Read(Path.Combine(folder, $"{name}-labels-idx1-ubyte.gz"), 1);
        if (pixels.Shape[0] != kinds.Shape[0])
            throw new InvalidDataException($"{folder}: {pixels.Shape[0]} {name} images but {kinds.Shape[0]} labels.");
        var images = tensor(pixels.Content).view(pixels.Shape[0], 1, pixels.Shape[1], pixels.Shape[2]).to(ScalarType.Float32);
        var labels = tensor(kinds.Content).to(ScalarType.Int64);
        return new FashionMnistDataset(((images / 255f - Mean) / Deviation).DetachFromDisposeScope(), labels.DetachFromDisposeScope());
    }

    public override Dictionary<string, Tensor> GetTensor(long index) => new() { ["image"] = _images[index], ["label"] = _labels[index] };

    /// <summary>Several items at once.</summary>
    public (Tensor Images, Tensor Labels) Select(long[] indices)
    {
        using var which = tensor(indices);
        return (_images.index_select(0, which), _labels.index_select(0, which));
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _images.Dispose();
            _labels.Dispose();
        }

        base.Dispose(disposing);
    }
}
