using FabricSharp.Collectives;
using static TorchSharp.torch;

namespace FabricSharp.Precision;

/// <summary>
/// PyTorch's gradient scaler: multiplies the loss, so that small gradients do not vanish in float16; divides the gradients again before
/// the optimizer steps; skips the step where one of them is infinite or NaN, and adapts the factor. Usable without Fabric; with
/// <c>precision: "16-mixed"</c> Fabric calls it. One thread at a time.
/// </summary>
/// <example><code>
/// using (var scaled = scaler.Scale(loss))
///     scaled.backward();
/// scaler.Step(optimizer);
/// scaler.Update();
/// </code></example>
public sealed class GradScaler
{
    private readonly Dictionary<optim.Optimizer, Progress> _optimizers = new(ReferenceEqualityComparer.Instance);
    private float _scale;

    /// <summary>What the gradients that exist were scaled with: another optimizer's step may have been followed by an update.</summary>
    private float _scaleOfGradients;

    private double _growthFactor;
    private double _backoffFactor;
    private int _growthInterval;
    private int _growthTracker;

    /// <summary>Makes a scaler.</summary>
    /// <param name="initScale">The first factor, positive. <value>Default 65536.</value></param>
    /// <param name="growthFactor">What the scale is multiplied with after <paramref name="growthInterval"/> good steps in a row, above 1. <value>Default 2.</value></param>
    /// <param name="backoffFactor">What it is multiplied with after a skipped step, between 0 and 1. <value>Default 0.5.</value></param>
    /// <param name="growthInterval">Good steps in a row before the scale grows, at least 1. <value>Default 2000.</value></param>
    /// <param name="enabled">False: losses and gradients are left alone and <see cref="Step"/> always steps. <value>Default true.</value></param>
    /// <exception cref="ArgumentException">A number is out of its range.</exception>
    public GradScaler(double initScale = 65536, double growthFactor = 2, double backoffFactor = 0.5, int growthInterval = 2000, bool enabled = true)
    {
        IsEnabled = enabled;
        Set(new GradScalerState(initScale, growthFactor, backoffFactor, growthInterval, 0));
    }

    /// <summary>Whether the scaler does anything.</summary>
    public bool IsEnabled { get; }

    /// <summary>The factor of the next loss; 1 where the scaler is not enabled.</summary>
    public double CurrentScale => IsEnabled ? _scale : 1;

    /// <summary>
    /// The ranks that train one model together: a non-finite gradient on one of them then skips the step on all, and <see cref="Unscale"/>
    /// and <see cref="Step"/> become collective. Fabric sets it where it is not set. <value>Default null: this rank decides alone.</value>
    /// </summary>
    public ProcessGroup? Group { get; set; }

    /// <summary>The state to save, and to give to <see cref="LoadState"/> when training goes on.</summary>
    public GradScalerState State => new(_scale, _growthFactor, _backoffFactor, _growthInterval, _growthTracker);

    /// <summary>Takes a saved state over. Local; the same on every rank.</summary>
    /// <exception cref="ArgumentException">A number is out of its range.</exception>
    public void LoadState(GradScalerState state)
    {
        ArgumentNullException.ThrowIfNull(state);
        Set(state);
    }

    /// <summary>The loss times the scale, to run the backward pass from. Local.</summary>
    /// <param name="loss">Of any shape and floating-point type; a float16 scalar gives a float32 one, which the scale does not overflow.</param>
    /// <returns>A new tensor; <paramref name="loss"/> itself where the scaler is not enabled.</returns>
    public Tensor Scale(Tensor loss)
    {
        ArgumentNullException.ThrowIfNull(loss);
        if (!IsEnabled)
            return loss;
        _scaleOfGradients = _scale;
        using var factor = full([], _scale, ScalarType.Float32, loss.device);
        return loss.mul(factor);
    }

    /// <summary>
    /// Divides the gradients of <paramref name="optimizer"/>'s parameters by the scale, in place, to clip or look at them before
    /// <see cref="Step"/>, which does it otherwise. Once per optimizer between updates. Collective where <see cref="Group"/> is set.
    /// </summary>
    /// <exception cref="InvalidOperationException">Called twice since the last update, after <see cref="Step"/>, or gradients are float16.</exception>
    public void Unscale(optim.Optimizer optimizer)
    {
        var original = Original(optimizer);
        if (!IsEnabled)
            return;
        var progress = Of(original);
        if (progress.Stage == Stage.Unscaled)
            throw new InvalidOperationException("unscale_() has already been called on this optimizer since the last update(). Call `Unscale` once per step, before `Step` and `Update`.");
        if (progress.Stage == Stage.Stepped)
            throw new InvalidOperationException("unscale_() is being called after step(). Call `Unscale` before `Step`, or `Update` in between.");
        UnscaleOnce(original, progress);
    }

    /// <summary>
    /// Steps the optimizer, unless one of its gradients is infinite or NaN; unscales them first if that has not happened yet. The same on
    /// all ranks. Collective where <see cref="Group"/> is set.
    /// </summary>
    /// <param name="optimizer">A TorchSharp optimizer; of a <see cref="FabricOptimizer"/> the original is used.</param>
    /// <returns>What the optimizer's step returned; null where it was skipped.</returns>
    /// <exception cref="InvalidOperationException">Called twice since the last update, or no parameter has a gradient.</exception>
    public Tensor? Step(optim.Optimizer optimizer)
    {
        var original = Original(optimizer);
        if (!IsEnabled)
            return original.step();
        var progress = Of(original);
        if (progress.Stage == Stage.Stepped)
            throw new InvalidOperationException("step() has already been called since the last update(). Call `Update` after `Step`.");
        if (progress.Stage == Stage.Ready)
            UnscaleOnce(original, progress);
        if (!progress.HasGradients)
            throw new InvalidOperationException("No inf checks were recorded for this optimizer: none of its parameters has a gradient. Run the backward pass of `Scale(loss)` before `Step`.");
        progress.Stage = Stage.Stepped;
        return progress.FoundNonFinite ? null : original.step();
    }

    /// <summary>Adapts the scale to how the steps went and begins the next iteration. Local; the same on every rank.</summary>
    /// <param name="newScale">A scale to use from now on instead. <value>Default null.</value></param>
    /// <exception cref="InvalidOperationException">Nothing was unscaled or stepped since the last update.</exception>
    public void Update(double? newScale = null)
    {
        if (!IsEnabled)
            return;
        if (newScale is { } scale)
            Set(State with { Scale = scale });
        else if (!_optimizers.Values.Any(progress => progress.HasGradients))
            throw new InvalidOperationException("No inf checks were recorded prior to update. Call `Step` (or `Unscale`) before `Update`.");
        else
            Adapt(_optimizers.Values.Any(progress => progress.FoundNonFinite));
        _optimizers.Clear();
    }

    /// <summary>A scaler of another rank that begins where this one is.</summary>
    internal GradScaler Copy()
    {
        var copy = new GradScaler(enabled: IsEnabled);
        copy.LoadState(State);
        return copy;
    }

    /// <summary>PyTorch's <c>_amp_update_scale_</c>.</summary>
    private void Adapt(bool foundNonFinite)
    {
        if (foundNonFinite)
        {
            _scale = (float)(_scale * _backoffFactor);
            _growthTracker = 0;
        }
        else if (++_growthTracker == _growthInterval)
        {
            var grown = (float)(_scale * _growthFactor);
            _scale = float.IsFinite(grown) ? grown : _scale;
            _growthTracker = 0;
        }
    }

    private void UnscaleOnce(optim.Optimizer optimizer, Progress progress)
    {
        (progress.HasGradients, progress.FoundNonFinite) = GradientScan.Unscale([.. optimizer.parameters()], _scaleOfGradients, Group);
        progress.Stage = Stage.Unscaled;
    }

    private Progress Of(optim.Optimizer optimizer)
    {
        if (!_optimizers.TryGetValue(optimizer, out var progress))
            _optimizers.Add(optimizer, progress = new Progress());
        return progress;
    }

    private void Set(GradScalerState state)
    {
        if (!float.IsFinite((float)state.Scale) || (float)state.Scale <= 0)
            throw new ArgumentException($"The scale must be a positive float32 number, but is {state.Scale}.", nameof(state));
        if (!(state.GrowthFactor > 1) || !double.IsFinite(state.GrowthFactor))
            throw new ArgumentException($"The growth factor must be > 1.0, but is {state.GrowthFactor}.", nameof(state));
        if (!(state.BackoffFactor is > 0 and < 1))
            throw new ArgumentException($"The backoff factor must be < 1.0 and positive, but is {state.BackoffFactor}.", nameof(state));
        if (state.GrowthInterval < 1 || state.GrowthTracker < 0 || state.GrowthTracker >= state.GrowthInterval)
            throw new ArgumentException($"The growth interval must be at least 1 and above the growth tracker, but they are {state.GrowthInterval} and {state.GrowthTracker}.", nameof(state));
        (_growthFactor, _backoffFactor, _growthInterval, _growthTracker) = (state.GrowthFactor, state.BackoffFactor, state.GrowthInterval, state.GrowthTracker);
        _scale = (float)state.Scale;
        if (_scaleOfGradients == 0)
            _scaleOfGradients = _scale;
    }

    private static optim.Optimizer Original(optim.Optimizer optimizer)
    {
        ArgumentNullException.ThrowIfNull(optimizer);
        return optimizer is FabricOptimizer wrapper ? wrapper.Optimizer : optimizer;
    }

    private enum Stage
    {
        Ready,
        Unscaled,
        Stepped,
    }

    private sealed class Progress
    {
        public Stage Stage { get; set; }

        public bool HasGradients { get; set; }

        public bool FoundNonFinite { get; set; }
    }
}
