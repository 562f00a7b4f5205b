using FabricSharp.Collectives;

namespace FabricSharp.Exchange;

/// <summary>
/// Some ranks run what is inside first, the others wait for them.
/// <code>
/// leading rank   body, meeting 1,                 meeting 2
/// other ranks          meeting 1, body,           meeting 2
/// </code>
/// A body that throws on any rank ends its scope all the same, so nobody is left waiting.
/// </summary>
internal sealed class LeadingRankScope : IDisposable
{
    /// <summary>As good as for ever: the leading rank may download or unpack for hours. One that ends or fails is noticed at once. In milliseconds it fits an int.</summary>
    private static readonly TimeSpan Limit = TimeSpan.FromDays(20);

    private readonly ProcessGroup _group;
    private readonly bool _leads;
    private bool _ended;

    public LeadingRankScope(ProcessGroup group, bool leads)
    {
        _group = group;
        _leads = leads;
        if (!leads)
            Meet();
    }

    public void Dispose()
    {
        if (_ended)
            return;
        _ended = true;
        if (_leads)
            Meet();
        Meet();
    }

    private void Meet() => _group.Barrier().Wait(Limit);
}
