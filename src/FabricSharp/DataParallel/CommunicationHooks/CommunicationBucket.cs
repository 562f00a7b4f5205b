using FabricSharp.Collectives;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>What a communication hook works on: one bucket of gradients of one data type. Valid during the call only.</summary>
public readonly struct CommunicationBucket
{
    internal CommunicationBucket(int index, bool isLast, Tensor buffer, IReadOnlyList<Tensor> gradients, IReadOnlyList<Parameter> parameters, ProcessGroup group)
    {
        Index = index;
        IsLast = isLast;
        Buffer = buffer;
        Gradients = gradients;
        Parameters = parameters;
        Group = group;
    }

    /// <summary>The bucket's position in the order of this backward pass's communication, from 0; the same on every rank.</summary>
    public int Index { get; }

    /// <summary>Whether no further bucket follows in this backward pass.</summary>
    public bool IsLast { get; }

    /// <summary>
    /// This rank's gradients, one after the other, as a flat tensor of shape (elements). Not divided by the number of ranks yet. Zeros where this rank
    /// did not use a parameter. It may be changed in place.
    /// </summary>
    public Tensor Buffer { get; }

    /// <summary>Views of <see cref="Buffer"/>, one of each parameter's shape, in the buffer's order.</summary>
    public IReadOnlyList<Tensor> Gradients { get; }

    /// <summary>The parameters that the gradients are of: identical objects from step to step, the same order on every rank.</summary>
    public IReadOnlyList<Parameter> Parameters { get; }

    /// <summary>The ranks to average over. Every rank runs the hook for the same buckets in the same order, so collective calls match.</summary>
    public ProcessGroup Group { get; }
}
