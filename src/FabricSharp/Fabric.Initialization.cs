using FabricSharp.Precision;
using static TorchSharp.torch;

namespace FabricSharp;

/// <summary>Making models and tensors where and as they will be used.</summary>
public sealed partial class Fabric
{
    /// <summary>
    /// Inside this scope, modules are made on <see cref="Device"/> with the precision's element type, so that <c>Setup</c> need not move or
    /// convert them. Local.
    /// </summary>
    /// <param name="emptyInit">True says that the first values do not matter, because a checkpoint will be loaded. TorchSharp's modules offer no
    /// way to leave them out, so they are set nevertheless. <value>Default null: they matter.</value></param>
    /// <returns>Dispose it on the same thread to end the scope.</returns>
    /// <exception cref="InvalidOperationException">With several devices: not launched yet.</exception>
    public IDisposable InitModule(bool? emptyInit = null)
    {
        _ = emptyInit;
        RequireLaunched(nameof(InitModule));
        return new InitScope(Precision, Device);
    }

    /// <summary>Inside this scope, tensors are made on <see cref="Device"/> with the precision's element type. Local.</summary>
    /// <returns>Dispose it on the same thread to end the scope.</returns>
    public IDisposable InitTensor()
    {
        RequireAlive(nameof(InitTensor));
        return new InitScope(Precision, Device);
    }

    private sealed class InitScope : IDisposable
    {
        private readonly IDisposable _type;
        private readonly Device? _deviceBefore;

        public InitScope(PrecisionPlugin precision, Device device)
        {
            var before = get_default_device();
            if (before.type != device.type || before.index != device.index)
            {
                _deviceBefore = before;
                set_default_device(device);
            }

            _type = precision.InitContext();
        }

        public void Dispose()
        {
            _type.Dispose();
            if (_deviceBefore is not null)
                set_default_device(_deviceBefore);
        }
    }
}
