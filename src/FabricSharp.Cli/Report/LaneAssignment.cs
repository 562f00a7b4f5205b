namespace FabricSharp.Cli.Report;

/// <summary>Spreads spans over as few lanes as they need so as not to cross.</summary>
internal static class LaneAssignment
{
    /// <param name="spans">In the order of their begins.</param>
    /// <param name="boundsOf">Begin and end.</param>
    public static List<List<T>> Assign<T>(IReadOnlyList<T> spans, Func<T, (long Begin, long End)> boundsOf)
    {
        var lanes = new List<List<T>>();
        var ends = new List<long>();
        foreach (var span in spans)
        {
            var (begin, end) = boundsOf(span);
            var lane = ends.FindIndex(last => last <= begin);
            if (lane < 0)
            {
                lane = lanes.Count;
                lanes.Add([]);
                ends.Add(0);
            }

            lanes[lane].Add(span);
            ends[lane] = Math.Max(end, begin);
        }

        return lanes;
    }
}
