using FabricSharp.Collectives;
using FabricSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>What the arities of <c>DistributedDataParallel</c> share.</summary>
internal sealed class DataParallelEngine : IDisposable
{
    private readonly SynchronizedBackward _backward = new();

    public DataParallelEngine(nn.Module module, ProcessGroup group, DDPOptions options)
    {
        ArgumentNullException.ThrowIfNull(module);
        ArgumentNullException.ThrowIfNull(group);
        Reducer = new GradientReducer(module, group, options, ModuleTensors.Buffers(module));
        _backward.Add(Reducer);
    }

    public GradientReducer Reducer { get; }

    public void Backward(Tensor loss, bool retainGraph)
    {
        ArgumentNullException.ThrowIfNull(loss);
        _backward.Run(loss, retainGraph);
    }

    public IDisposable NoSync() => new NoSyncScope(Reducer);

    public void Dispose() => _backward.Dispose();
}
