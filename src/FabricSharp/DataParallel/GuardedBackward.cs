using System.Runtime.CompilerServices;
using System.Runtime.ExceptionServices;
using FabricSharp.Collectives;
using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>
/// The backward passes of our own autograd functions, which libtorch calls. An exception that crossed its frames would end the process: it is
/// stored, and libtorch is given gradients that it refuses, so that <c>backward()</c> ends there with an error of its own.
/// See docs/design/sync-batch-norm.md, "Failures inside a backward pass".
/// </summary>
internal static class GuardedBackward
{
    private static readonly ConditionalWeakTable<ProcessGroup, Exception> Failures = [];

    /// <summary>
    /// What the last function on this thread handed to libtorch, which copies the handles only after the managed code has returned: they may
    /// be freed when the next function runs, not before.
    /// </summary>
    [ThreadStatic]
    private static List<Tensor?>? _handedOver;

    /// <summary>The failure of a backward pass that called collectives of <paramref name="group"/>; null where there is none.</summary>
    public static Exception? FailureOf(ProcessGroup group) => Failures.TryGetValue(group, out var failure) ? failure : null;

    /// <summary>To be called before a forward pass: throws what a backward pass could not, and frees what it left.</summary>
    public static void BeforeForward(ProcessGroup group)
    {
        Release();
        if (FailureOf(group) is { } failure)
            ExceptionDispatchInfo.Throw(failure);
    }

    /// <summary>Runs <paramref name="body"/> without recording it. Never throws.</summary>
    /// <param name="group">Whose collectives it calls; unusable after a failure.</param>
    /// <param name="gradOutput">The gradient that libtorch gave, which is disposed; may be undefined.</param>
    /// <param name="inputShapes">Of each argument of the forward pass; null for what is no tensor.</param>
    /// <param name="body">Gives a gradient, or null, for each argument.</param>
    public static List<Tensor> Run(ProcessGroup group, Tensor? gradOutput, IReadOnlyList<long[]?> inputShapes, Func<Tensor?[]> body)
    {
        Release();
        try
        {
            using var gradientsOff = no_grad();
            using var scope = NewDisposeScope();
            _handedOver = [.. body()];
            foreach (var gradient in _handedOver)
                gradient?.DetachFromDisposeScope();
        }
        catch (Exception e)
        {
            Fail(group, e);
            _handedOver = [.. inputShapes.Select(Refused)];
        }

        gradOutput?.Dispose();
        return _handedOver!;
    }

    private static void Fail(ProcessGroup group, Exception failure)
    {
        Failures.AddOrUpdate(group, failure);
        if (failure is not DistributedException)
            group.Abort($"{failure.GetType().Name} in a backward pass: {failure.Message}"); // the others wait for this rank
    }

    /// <summary>A gradient on another device than its tensor.</summary>
    private static Tensor? Refused(long[]? shape) => shape is null ? null : empty(shape, device: META).DetachFromDisposeScope();

    private static void Release()
    {
        _handedOver?.ForEach(gradient => gradient?.Dispose());
        _handedOver = null;
    }
}
