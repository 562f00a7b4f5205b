using TorchSharp;
using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>What the planner needs to know of a parameter.</summary>
internal readonly record struct BucketItem(int Index, long Bytes, ScalarType Type, DeviceType Device, int DeviceIndex);

/// <summary>
/// Divides parameters into buckets as PyTorch does: in order, one open bucket per data type and device; a bucket is closed as soon as it
/// reaches its limit, so it can exceed it by one parameter. Each kind's first bucket has the first limit, the last limit repeats.
/// </summary>
internal static class BucketPlanner
{
    /// <param name="items">Parameters in the wanted order.</param>
    /// <param name="limits">Bytes, at least one.</param>
    /// <returns>Parameter indices by bucket, in the order of each bucket's first item.</returns>
    public static List<int[]> Assign(IReadOnlyList<BucketItem> items, IReadOnlyList<long> limits)
    {
        var closed = new List<(int First, int[] Members)>();
        var open = new Dictionary<(ScalarType, DeviceType, int), OpenBucket>();
        for (var position = 0; position < items.Count; position++)
        {
            var item = items[position];
            var key = (item.Type, item.Device, item.DeviceIndex);
            if (!open.TryGetValue(key, out var bucket))
                open[key] = bucket = new OpenBucket();
            bucket.Add(item, position);
            if (bucket.Bytes >= limits[Math.Min(bucket.Closed, limits.Count - 1)])
                closed.Add(bucket.Close());
        }

        foreach (var bucket in open.Values)
            if (bucket.Bytes > 0 || bucket.HasMembers)
                closed.Add(bucket.Close());
        closed.Sort((a, b) => a.First.CompareTo(b.First));
        return closed.ConvertAll(bucket => bucket.Members);
    }

    private sealed class OpenBucket
    {
        private readonly List<int> _members = [];
        private int _first;

        public long Bytes { get; private set; }

        public int Closed { get; private set; }

        public bool HasMembers => _members.Count > 0;

        public void Add(BucketItem item, int position)
        {
            if (!HasMembers)
                _first = position;
            _members.Add(item.Index);
            Bytes += item.Bytes;
        }

        public (int First, int[] Members) Close()
        {
            var result = (_first, _members.ToArray());
            _members.Clear();
            Bytes = 0;
            Closed++;
            return result;
        }
    }
}
