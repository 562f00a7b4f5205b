using FabricSharp.DataParallel;
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
    public static TModule Unwrap<TModule>(nn.Module inner)
        where TModule : nn.Module =>
        inner as TModule ?? throw new InvalidCastException($"The module that was set up is a {inner.GetType().Name}, not a {typeof(TModule).Name}.");
}
