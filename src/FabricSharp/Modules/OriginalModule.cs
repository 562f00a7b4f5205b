using static TorchSharp.torch;

namespace FabricSharp.Modules;

/// <summary>How a wrapper gives its original back.</summary>
internal static class OriginalModule
{
    public static TModule As<TModule>(nn.Module original)
        where TModule : nn.Module =>
        original as TModule ?? throw new InvalidCastException($"The module that was set up is a {original.GetType().Name}, not a {typeof(TModule).Name}.");
}
