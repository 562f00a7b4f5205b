using static TorchSharp.torch;

namespace FabricSharp.Collectives.SharedMemory;

/// <summary>Bucket reductions and control messages of one reducer, on channels of their own.</summary>
internal sealed unsafe class SharedMemoryGradientChannel : GradientChannel
{
    private readonly SharedMemoryWorld _world;
    private readonly SharedMemoryChannel _buckets;
    private readonly SharedMemoryChannel _control;
    private long _poolNumber;

    public SharedMemoryGradientChannel(SharedMemoryWorld world, string name, int exchangeBytes)
    {
        _world = world;
        _buckets = new SharedMemoryChannel(world, $"{name}, buckets", new SharedMemoryChannelShape(RingLength: 128, InlineSlots: 0, InlineBytes: 0, StagingSlots: 0, StagingBytes: 0));
        _control = new SharedMemoryChannel(world, $"{name}, control", new SharedMemoryChannelShape(RingLength: 4, InlineSlots: 4, (exchangeBytes + 63) & ~63, StagingSlots: 0, StagingBytes: 0));
    }

    public override GradientBuffer Allocate(long bytes) => new SharedMemoryBuffer(_world, _world.NextBufferNumber(), bytes);

    public override Work Reduce(GradientBuffer buffer, long byteOffset, long elementCount, ScalarType type, double scale)
    {
        var operation = new BucketReduce((SharedMemoryBuffer)buffer, byteOffset, elementCount, type, scale);
        _buckets.Enqueue([operation]);
        return new SharedMemoryWork(_buckets, operation);
    }

    public override GradientPool? CreatePool(IReadOnlyList<long> bytes)
    {
        if (!bytes.Any(size => size > 0))
            return null;
        _poolNumber = _world.NextBufferNumber();
        return new SharedMemoryGradientPool(_world, bytes);
    }

    public override Work ReduceInPlace(GradientPool pool, int owner, IntPtr data, long elementCount, ScalarType type, double scale)
    {
        var operation = new PoolReduce((SharedMemoryGradientPool)pool, _poolNumber, owner, data, elementCount, type, scale);
        _buckets.Enqueue([operation]);
        return new SharedMemoryWork(_buckets, operation);
    }

    public override void Progress() => _buckets.Progress();

    public override void Exchange(ReadOnlySpan<byte> mine, Span<byte> all, TimeSpan? timeout = null)
    {
        if (mine.Length > _control.InlineBytes || all.Length != mine.Length * _world.Size)
            throw new ArgumentException($"An exchange of {mine.Length} bytes between {_world.Size} ranks does not fit {_control.InlineBytes} and {all.Length} bytes.", nameof(mine));
        fixed (byte* source = mine, destination = all)
        {
            var operation = new ExchangeOperation(source, destination, mine.Length);
            _control.Enqueue([operation]);
            _control.Wait(operation, timeout ?? _world.Timeout, _buckets);
        }
    }

    public override void Abort(string reason) => _world.Fail(reason);

    public override void Dispose()
    {
        _buckets.Dispose();
        _control.Dispose();
    }
}
