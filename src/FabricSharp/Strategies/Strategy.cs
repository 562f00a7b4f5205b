using FabricSharp.Collectives;
using FabricSharp.Configuration;
using static TorchSharp.torch;

namespace FabricSharp.Strategies;

/// <summary>
/// How ranks share the work: how a model is prepared, what a backward pass and an optimizer step mean. Chosen by name or as an object,
/// for one Fabric each.
/// </summary>
public abstract class Strategy : IDisposable
{
    private FabricPlan? _plan;

    /// <summary>The registered name, for messages.</summary>
    public abstract string Name { get; }

    /// <summary>Whether several ranks take part (be it that there is only one now).</summary>
    public abstract bool IsDistributed { get; }

    /// <summary>How ranks come to exist on a machine.</summary>
    internal virtual StartMethod Starts => StartMethod.Popen;

    /// <summary>The ranks; null before launch and where there is only this one.</summary>
    internal virtual ProcessGroup? Group => null;

    /// <summary>The plan that this strategy is part of.</summary>
    internal FabricPlan Plan => _plan ?? throw new InvalidOperationException($"The strategy '{Name}' is not part of a Fabric yet.");

    /// <summary>Refuses what this strategy cannot do, before anything starts.</summary>
    internal virtual void Check(FabricPlan plan)
    {
    }

    /// <summary>Binds the strategy to its Fabric.</summary>
    internal void Attach(FabricPlan plan)
    {
        if (_plan is not null)
            throw new InvalidOperationException($"This {GetType().Name} belongs to another Fabric already. Make one strategy object per Fabric.");
        _plan = plan;
    }

    /// <summary>A strategy with the same settings for another rank of this process.</summary>
    internal virtual Strategy CopyForThread() => throw new NotSupportedException($"The strategy '{Name}' cannot run ranks as threads.");

    /// <summary>Whether <see cref="Connect"/> uses its store; else the ranks meet by themselves, and no address is needed.</summary>
    internal virtual bool MeetsThroughStore => true;

    /// <summary>Joins the other ranks. Collective.</summary>
    internal virtual void Connect(Store store, int rank, int worldSize)
    {
    }

    /// <summary>Makes the ranks' replicas of <paramref name="module"/> equal and readies them for training. Collective.</summary>
    internal virtual ModuleHandler SetupModule(nn.Module module) => new();

    /// <summary>Runs the backward pass of <paramref name="loss"/>; the gradients are averaged when it returns. Collective.</summary>
    internal virtual void Backward(Tensor loss, bool retainGraph) => loss.backward(retain_graph: retainGraph);

    /// <summary>To be called before an optimizer steps on parameters of <paramref name="handlers"/>. Collective where gradients are still to be averaged.</summary>
    internal virtual void BeforeStep(IEnumerable<ModuleHandler> handlers)
    {
        foreach (var handler in handlers)
            handler.BeforeStep();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Leaves the other ranks.</summary>
    protected virtual void Dispose(bool disposing)
    {
    }
}
