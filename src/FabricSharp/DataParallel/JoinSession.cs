using FabricSharp.Collectives;

namespace FabricSharp.DataParallel;

/// <summary>
/// One run of <see cref="Join"/>. Before each collective part of a step the ranks exchange a <see cref="JoinNotice"/> on the first model's channel: those
/// that train say what comes next, those that are out of data listen and take part in it with zeros.
/// </summary>
internal sealed class JoinSession : IDisposable
{
    private const int SkewWorthAWarning = 1000;

    private readonly IReadOnlyList<GradientReducer> _reducers;
    private readonly bool _throwsEarly;
    private readonly bool _dividesByAll;

    /// <summary>Ranks that said at the last notice that they train.</summary>
    private IReadOnlyList<int> _active;

    public JoinSession(IReadOnlyList<GradientReducer> reducers, bool throwsEarly, bool dividesByAll)
    {
        _reducers = reducers;
        _throwsEarly = throwsEarly;
        _dividesByAll = dividesByAll;
        _active = [.. Enumerable.Range(0, WorldSize)];
        foreach (var reducer in reducers)
            reducer.RequireNoJoin();
        foreach (var reducer in reducers)
            reducer.EnterJoin(this);
    }

    private int WorldSize => _reducers[0].WorldSize;

    private int Rank => _reducers[0].Rank;

    /// <summary>What gradients are multiplied by before they are summed.</summary>
    public double ScaleOf(GradientReducer reducer) => 1.0 / (_dividesByAll ? reducer.WorldSize : _active.Count);

    /// <summary>Tells the ranks that are out of data. Collective. Returns the rank whose buffers are everyone's: the lowest that still trains.</summary>
    public int AnnounceForward(GradientReducer reducer)
    {
        Announce(new JoinNotice(JoinNoticeKind.Forward, IndexOf(reducer)));
        return _active[0];
    }

    /// <summary>Tells the ranks that are out of data. Collective.</summary>
    public void AnnouncePass(GradientReducer reducer) => Announce(new JoinNotice(JoinNoticeKind.Pass, IndexOf(reducer)));

    /// <summary>This rank is out of data: takes part in what the others do until they are, too; then all get the same model. Collective.</summary>
    public void KeepCompany()
    {
        var passes = 0L;
        while (Listen() is { } notice)
        {
            var reducer = _reducers[notice.Model];
            if (notice.Kind == JoinNoticeKind.Forward)
                reducer.ShadowForward(_active[0]);
            else
                reducer.ShadowPass();
            if (notice.Kind == JoinNoticeKind.Pass && ++passes == SkewWorthAWarning * _reducers.Count)
                Console.Error.WriteLine(
                    $"FabricSharp: rank {Rank} ran out of data {SkewWorthAWarning} backward passes before others. Share the data more evenly: this rank only keeps the others company.");
        }

        foreach (var reducer in _reducers)
            reducer.TakeModelOf(_active[^1]);
    }

    /// <summary>The others must not wait for a rank whose loop threw. Local.</summary>
    public void Abort(Exception exception)
    {
        if (exception is EarlyTermination)
            return; // all ranks throw
        foreach (var reducer in _reducers)
            reducer.Abort($"the training loop inside Join ended in {exception.GetType().Name}: {exception.Message}");
    }

    public void Dispose()
    {
        foreach (var reducer in _reducers)
            reducer.LeaveJoin();
    }

    /// <summary>The next notice of the ranks that train; null when none does.</summary>
    private JoinNotice? Listen()
    {
        var notices = Exchange(new JoinNotice(_throwsEarly ? JoinNoticeKind.EndsAll : JoinNoticeKind.Ended, 0));
        var training = RanksThatTrain(notices);
        if (training.Count == 0)
            return null;
        _active = training;
        if (_throwsEarly)
            throw new EarlyTermination($"Rank {Rank} exhausted all inputs.");
        RequireAgreement(notices);
        return notices[_active[0]];
    }

    private void Announce(JoinNotice notice)
    {
        var notices = Exchange(notice);
        if (notices.Any(other => other.Kind == JoinNoticeKind.EndsAll))
            throw new EarlyTermination("Detected at least one rank that exhausted inputs. Throwing across all ranks.");
        _active = RanksThatTrain(notices);
        RequireAgreement(notices);
    }

    private JoinNotice[] Exchange(JoinNotice notice)
    {
        var mine = new byte[JoinNotice.Size];
        notice.Encode(mine);
        var all = new byte[JoinNotice.Size * WorldSize];
        _reducers[0].ExchangeNotices(mine, all);
        return [.. all.Chunk(JoinNotice.Size).Select(bytes => JoinNotice.Decode(bytes))];
    }

    private static List<int> RanksThatTrain(JoinNotice[] notices) =>
        [.. Enumerable.Range(0, notices.Length).Where(rank => notices[rank].Kind is JoinNoticeKind.Forward or JoinNoticeKind.Pass)];

    private void RequireAgreement(JoinNotice[] notices)
    {
        if (_active.All(rank => notices[rank] == notices[_active[0]]))
            return;
        var states = notices.Select((notice, rank) => $"rank {rank}: {notice}");
        throw new CollectiveMismatchException(
            $"Rank {Rank}: inside Join the ranks that still have data must run the same passes in the same order, but are at different points: {string.Join("; ", states)}.");
    }

    private int IndexOf(GradientReducer reducer)
    {
        for (var i = 0; i < _reducers.Count; i++)
            if (ReferenceEquals(_reducers[i], reducer))
                return i;
        throw new InvalidOperationException("The model is not part of this Join.");
    }

    /// <summary>All ranks throw: nobody needs to be told.</summary>
    private sealed class EarlyTermination(string message) : InvalidOperationException(message);
}
