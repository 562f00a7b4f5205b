using static TorchSharp.torch;

namespace FabricSharp.MultiProcess.Worker.Cases;

/// <summary>What a training case works with: the model under Fabric on this rank, or the plain reference that plays all ranks in turn.</summary>
internal interface ITrainee
{
    Tensor Forward(Tensor input);

    void Backward(Tensor loss, bool retainGraph = false);

    IDisposable NoSync();
}
