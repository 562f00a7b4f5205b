using System.Diagnostics;
using FabricSharp.Interop.LibTorch;
using static TorchSharp.torch;

namespace FabricSharp.Collectives.SharedMemory;

/// <summary>
/// Places of equal size form a class: as many as there are owners, and one or two to spare. At all times a class has at least as many free
/// places as owners without one, so that <see cref="Take"/> never fails: that is what <see cref="TryAllocate"/> leaves untouched.
/// </summary>
internal sealed unsafe class SharedMemoryGradientPool : GradientPool
{
    private const long Alignment = 4096;

    private readonly SharedMemorySegment[] _segments;
    private readonly int _rank;
    private readonly Lock _gate = new();

    /// <summary>By size; guarded by <see cref="_gate"/>, as all that follows.</summary>
    private readonly Dictionary<long, SizeClass> _classes = [];
    private readonly Dictionary<IntPtr, Place> _places = [];
    private readonly Owner[] _owners;

    /// <summary>Tensors that lie here, and one for the pool itself.</summary>
    private int _holders = 1;
    private bool _disposed;
    private bool _stopped;

    /// <summary>Makes the pool. Collective.</summary>
    public SharedMemoryGradientPool(SharedMemoryWorld world, IReadOnlyList<long> bytes)
    {
        _rank = world.Rank;
        _owners = [.. bytes.Select(size => new Owner { Bytes = size })];
        var classes = bytes.Where(size => size > 0).GroupBy(size => size).OrderBy(group => group.Key)
            .Select(group => (Bytes: group.Key, Owners: group.Count(), Places: group.Count() + Math.Clamp(group.Count() / 4, 1, 2))).ToList();
        _segments = SharedMemoryExchange.CreateEach(world, "gradient pool", classes.Sum(c => c.Places * Stride(c.Bytes)));
        var next = (IntPtr)_segments[_rank].Pointer;
        foreach (var (size, owners, places) in classes)
        {
            var sizeClass = _classes[size] = new SizeClass { OwnersWithout = owners };
            for (var i = 0; i < places; i++, next += (nint)Stride(size))
                sizeClass.Free.Push(_places[next] = new Place { Class = sizeClass, Data = next });
        }

        CpuAllocator.Register(this);
    }

    public override (IntPtr Begin, IntPtr End) Range => ((IntPtr)_segments[_rank].Pointer, (IntPtr)_segments[_rank].Pointer + (nint)_segments[_rank].Length);

    public override bool Covers(long bytes) => _classes.ContainsKey(bytes);

    public override IntPtr TryAllocate(nuint bytes)
    {
        if (!_classes.TryGetValue((long)bytes, out var sizeClass)) // never changes after construction
            return IntPtr.Zero;
        lock (_gate)
        {
            if (_disposed || _stopped || sizeClass.Free.Count - 1 < sizeClass.OwnersWithout)
                return IntPtr.Zero;
            return Hold(sizeClass.Free.Pop());
        }
    }

    public override bool TryAdopt(int owner, IntPtr data)
    {
        lock (_gate)
        {
            if (!_places.TryGetValue(data, out var place) || !_classes.TryGetValue(_owners[owner].Bytes, out var sizeClass) || place.Class != sizeClass)
                return false;
            if (place.Owner < 0)
                Adopt(place, owner);
            return place.Owner == owner;
        }
    }

    public override Tensor Take(int owner, ScalarType type)
    {
        IntPtr data;
        var bytes = _owners[owner].Bytes;
        lock (_gate)
        {
            var sizeClass = _classes[bytes];
            var held = _owners[owner].Held;
            var place = held.Count == 0 || sizeClass.Free.Count > sizeClass.OwnersWithout ? sizeClass.Free.Pop() : held[^1];
            if (place.Owner < 0)
                Adopt(place, owner);
            data = Hold(place);
        }

        return CpuAllocator.TensorOver(data, bytes / type.SizeInBytes(), type);
    }

    public override void StopServing()
    {
        lock (_gate)
            _stopped = true;
    }

    public override void Release(IntPtr data)
    {
        lock (_gate)
        {
            var place = _places[data];
            Debug.Assert(place.Holders > 0, "A place was released more often than it was given.");
            if (--place.Holders == 0)
            {
                if (place.Owner >= 0)
                    Disown(place);
                place.Class.Free.Push(place);
            }

            EndHold();
        }
    }

    public override void Dispose()
    {
        lock (_gate)
        {
            if (_disposed)
                return;
            _disposed = true;
            for (var rank = 0; rank < _segments.Length; rank++)
                if (rank != _rank)
                    _segments[rank].Dispose();
            EndHold();
        }
    }

    /// <summary>Where rank <paramref name="rank"/>'s memory lies in this process.</summary>
    public byte* Of(int rank) => _segments[rank].Pointer;

    public long OffsetOf(IntPtr data) => data - (IntPtr)_segments[_rank].Pointer;

    public long Length => _segments[_rank].Length;

    private static long Stride(long bytes) => (bytes + Alignment - 1) / Alignment * Alignment;

    private IntPtr Hold(Place place)
    {
        place.Holders++;
        _holders++;
        AssertInvariants();
        return place.Data;
    }

    private void EndHold()
    {
        if (--_holders > 0)
            return;
        CpuAllocator.Unregister(this);
        _segments[_rank].Dispose();
    }

    private void Adopt(Place place, int owner)
    {
        place.Owner = owner;
        if (_owners[owner].Held.Count == 0)
            place.Class.OwnersWithout--;
        _owners[owner].Held.Add(place);
    }

    private void Disown(Place place)
    {
        _owners[place.Owner].Held.Remove(place);
        if (_owners[place.Owner].Held.Count == 0)
            place.Class.OwnersWithout++;
        place.Owner = -1;
    }

    [Conditional("DEBUG")]
    private void AssertInvariants()
    {
        foreach (var (bytes, sizeClass) in _classes)
        {
            Debug.Assert(sizeClass.Free.Count >= sizeClass.OwnersWithout, "An owner without a place would find none.");
            Debug.Assert(sizeClass.OwnersWithout == _owners.Count(owner => owner.Bytes == bytes && owner.Held.Count == 0), "Owners without a place are miscounted.");
            Debug.Assert(sizeClass.Free.All(place => place.Holders == 0 && place.Owner < 0), "A free place is held.");
        }
    }

    private sealed class SizeClass
    {
        public Stack<Place> Free { get; } = [];

        /// <summary>Owners that hold no place now.</summary>
        public int OwnersWithout { get; set; }
    }

    private sealed class Place
    {
        public required SizeClass Class { get; init; }

        public required IntPtr Data { get; init; }

        /// <summary>−1: free, or a tensor that is nobody's gradient so far.</summary>
        public int Owner { get; set; } = -1;

        /// <summary>Storages over it.</summary>
        public int Holders { get; set; }
    }

    private sealed class Owner
    {
        public required long Bytes { get; init; }

        /// <summary>Its gradient's place, and those of earlier gradients that somebody has kept.</summary>
        public List<Place> Held { get; } = [];
    }
}
