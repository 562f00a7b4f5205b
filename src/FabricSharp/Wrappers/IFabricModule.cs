using FabricSharp.DataParallel;
using FabricSharp.Modules;
using FabricSharp.Precision;
using FabricSharp.Strategies;
using static TorchSharp.torch;

namespace FabricSharp;

/// <summary>What all modules that <c>Setup</c> gives back have in common, whatever their inputs.</summary>
public interface IFabricModule
{
    /// <summary>The original module.</summary>
    nn.Module Module { get; }

    /// <summary>Which parameters took no part in backward passes so far. Local.</summary>
    UnusedParameterReport UnusedParameters { get; }

    /// <summary>What data-parallel training of this module has measured so far. Local.</summary>
    /// <exception cref="InvalidOperationException">The strategy does not average gradients.</exception>
    DDPLoggingData GetLoggingData();

    /// <summary>What the strategy does around this module.</summary>
    internal ModuleHandler Handler { get; }

    /// <summary>The original module as <typeparamref name="TModule"/>.</summary>
    /// <exception cref="InvalidCastException">The original is of another type.</exception>
    TModule Unwrap<TModule>()
        where TModule : nn.Module;
}

/// <summary>What the arities share.</summary>
internal static class FabricModule
{
    public static TOutput Invoke<TModule, TOutput>(nn.Module original, Func<TModule, TOutput> method, ModuleHandler handler, PrecisionPlugin? precision)
        where TModule : nn.Module
    {
        ArgumentNullException.ThrowIfNull(method);
        var module = OriginalModule.As<TModule>(original);
        handler.BeginForward();
        var output = Invoke(module, method, precision);
        handler.AfterForward();
        return output;
    }

    private static TOutput Invoke<TModule, TOutput>(TModule module, Func<TModule, TOutput> method, PrecisionPlugin? precision)
    {
        if (precision is null)
            return method(module);
        using var pass = new ForwardPass(precision);
        return pass.ForeignOutput(method(module));
    }
}
