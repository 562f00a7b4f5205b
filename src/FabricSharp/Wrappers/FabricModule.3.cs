using FabricSharp.DataParallel;
using FabricSharp.Modules;
using FabricSharp.Precision;
using FabricSharp.Strategies;
using static TorchSharp.torch;

namespace FabricSharp;

/// <summary>
/// What <c>Setup</c> makes of a module with three inputs: a TorchSharp module that the strategy watches over. Names of parameters, state and
/// sub-modules are the original's; disposing it leaves the original alive.
/// </summary>
/// <typeparam name="T1">Type of an input.</typeparam>
/// <typeparam name="T2">Type of an input.</typeparam>
/// <typeparam name="T3">Type of an input.</typeparam>
/// <typeparam name="TResult">Type of the output.</typeparam>
public sealed class FabricModule<T1, T2, T3, TResult> : ModuleWrapper<T1, T2, T3, TResult>, IFabricModule
{
    private readonly ModuleHandler _handler;
    private readonly PrecisionPlugin? _precision;

    internal FabricModule(nn.Module<T1, T2, T3, TResult> inner, ModuleHandler handler, PrecisionPlugin? precision = null)
        : base(inner)
    {
        _handler = handler;
        _precision = precision;
    }

    /// <inheritdoc/>
    public UnusedParameterReport UnusedParameters => _handler.UnusedParameters;

    ModuleHandler IFabricModule.Handler => _handler;

    /// <inheritdoc/>
    public DDPLoggingData GetLoggingData() => _handler.LoggingData();

    /// <summary>
    /// The original's forward pass in the precision: floating-point inputs and outputs are converted where it is not <c>32-true</c>. Collective in
    /// training: every rank calls it equally often.
    /// </summary>
    public override TResult forward(T1 input1, T2 input2, T3 input3)
    {
        _handler.BeginForward();
        var output = Forward(input1, input2, input3);
        _handler.AfterForward();
        return output;
    }

    /// <summary>
    /// Runs any other method of the original as a forward pass. Collective like <see cref="forward"/>. Outputs are converted; for inputs there is
    /// <see cref="PrecisionPlugin.ConvertInput"/>.
    /// </summary>
    /// <param name="method">Gets the original module.</param>
    public TOutput Invoke<TModule, TOutput>(Func<TModule, TOutput> method)
        where TModule : nn.Module => FabricModule.Invoke(Inner, method, _handler, _precision);

    /// <summary>Ends the averaging of this module's gradients. The original module is not disposed: it is the caller's.</summary>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
            _handler.Dispose();
    }

    private TResult Forward(T1 input1, T2 input2, T3 input3)
    {
        if (_precision is null)
            return Inner.call(input1, input2, input3);
        using var pass = new ForwardPass(_precision);
        return pass.Output(Inner.call(pass.Input(input1), pass.Input(input2), pass.Input(input3)));
    }
}
