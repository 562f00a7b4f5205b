using System.Runtime.ExceptionServices;
using FabricSharp.Interop.LibTorch;
using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>A backward pass whose beginning and end the reducers know of: large gradients are born in their memory, and failures are thrown.</summary>
internal sealed class SynchronizedBackward : IDisposable
{
    private readonly List<GradientReducer> _reducers = [];

    /// <summary>What gradients are best born in; null when the reducers have changed.</summary>
    private ITensorMemory[]? _memories;

    /// <summary>Whether a backward pass is running. One that it starts itself (recomputation) is a part of it.</summary>
    private bool _isRunning;

    public void Add(GradientReducer reducer)
    {
        _reducers.Add(reducer);
        _memories = null;
    }

    public void Remove(GradientReducer reducer)
    {
        _reducers.Remove(reducer);
        _memories = null;
    }

    /// <summary>Runs the backward pass of <paramref name="loss"/>; the gradients are averaged when it returns. Collective.</summary>
    public void Run(Tensor loss, bool retainGraph)
    {
        if (_isRunning)
        {
            loss.backward(retain_graph: retainGraph);
            return;
        }

        _isRunning = true;
        try
        {
            RunOutermost(loss, retainGraph);
        }
        finally
        {
            _isRunning = false;
        }
    }

    public void Dispose()
    {
        _reducers.ForEach(reducer => reducer.Dispose());
        _reducers.Clear();
        _memories = null;
    }

    private void RunOutermost(Tensor loss, bool retainGraph)
    {
        foreach (var reducer in _reducers)
            reducer.BeforeBackward();
        using var serving = CpuAllocator.Serve(_memories ??= [.. _reducers.Select(reducer => reducer.GradientMemory).OfType<ITensorMemory>()]);
        try
        {
            loss.backward(retain_graph: retainGraph);
        }
        catch
        {
            foreach (var reducer in _reducers)
                reducer.BackwardFailed();
            throw;
        }

        AfterBackward();
    }

    /// <summary>Tells every reducer, also when one has failed: the others would take this backward pass for unfinished.</summary>
    private void AfterBackward()
    {
        var failure = default(ExceptionDispatchInfo);
        foreach (var reducer in _reducers)
        {
            try
            {
                reducer.AfterBackward();
            }
            catch (Exception e)
            {
                failure ??= ExceptionDispatchInfo.Capture(e);
            }
        }

        failure?.Throw();
    }
}
