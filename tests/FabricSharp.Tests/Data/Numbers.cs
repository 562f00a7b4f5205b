using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Data;

/// <summary>A data set whose item i is i.</summary>
internal sealed class Numbers(long count) : utils.data.Dataset<long>
{
    public override long Count => count;

    public bool Disposed { get; private set; }

    public static DataLoader<long, long[]> Loader(long count, int batchSize, bool shuffle = false, bool dropLast = false, int workers = 1) =>
        new(new Numbers(count), batchSize, Collate, shuffle, num_worker: workers, drop_last: dropLast);

    public static DataLoader<long, long[]> Loader(long count, int batchSize, IEnumerable<long> sampler, bool dropLast = false) =>
        new(new Numbers(count), batchSize, Collate, sampler, drop_last: dropLast);

    public static long[] Collate(IEnumerable<long> items, Device device) => [.. items];

    public override long GetTensor(long index) => index;

    protected override void Dispose(bool disposing) => Disposed = true;
}

/// <summary>A data set whose item i is the tensor i under "data" and its negative under "label".</summary>
internal sealed class NumberTensors(long count, long failsAt = -1) : utils.data.Dataset
{
    public override long Count => count;

    public override Dictionary<string, Tensor> GetTensor(long index) =>
        index == failsAt ? throw new InvalidDataException("unreadable") : new() { ["data"] = tensor(index), ["label"] = tensor(-index) };
}
