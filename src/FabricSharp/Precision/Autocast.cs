using FabricSharp.Interop.LibTorch;
using TorchSharp;
using static TorchSharp.torch;

namespace FabricSharp.Precision;

/// <summary>
/// PyTorch's <c>torch.autocast</c>: within this scope and on this thread, operations that profit from it (matrix products, convolutions,
/// …) compute in a narrower type, those that need range (softmax, losses, norms) in float32. Tensors that exist are not changed.
/// Scopes nest, also with <c>enabled: false</c>; the end of one brings back what was before it. Usable without Fabric. Local.
/// </summary>
/// <example><code>
/// using (new Autocast(DeviceType.CPU, torch.bfloat16))
///     loss = model.call(x).mean();
/// loss.backward(); // outside: the backward pass uses the types of the forward pass
/// </code></example>
public sealed class Autocast : IDisposable
{
    private readonly int _thread = Environment.CurrentManagedThreadId;
    private readonly (bool Enabled, ScalarType Type, bool Cache) _before;
    private bool _ended;

    /// <summary>Begins the scope.</summary>
    /// <param name="device">Where the operations run: CPU, CUDA or MPS; those on other devices are not affected. <value>Default CPU.</value></param>
    /// <param name="dtype">Float16 or BFloat16; another one turns the scope off with a warning. <value>Default BFloat16.</value></param>
    /// <param name="enabled">False: operations inside compute in the types of their inputs. <value>Default true.</value></param>
    /// <param name="cacheEnabled">Converts each weight once per outermost scope and not once per use. <value>Default true.</value></param>
    /// <exception cref="PlatformNotSupportedException">libtorch has no autocast that can be called here; see <see cref="NotSupportedReason"/>.</exception>
    /// <exception cref="ArgumentException">Another device.</exception>
    public Autocast(DeviceType device = DeviceType.CPU, ScalarType dtype = ScalarType.BFloat16, bool enabled = true, bool cacheEnabled = true)
    {
        RequireSupported();
        Device = Checked(device);
        Enabled = enabled && IsPossible(device, dtype);
        _before = (AutocastState.IsEnabled(device), AutocastState.ElementType(device), AutocastState.IsCacheEnabled);
        AutocastState.Set(device, Enabled, dtype, cacheEnabled);
        AutocastState.Enter();
    }

    /// <summary>Whether autocast works with the libtorch that is loaded.</summary>
    public static bool IsSupported => AutocastState.IsSupported;

    /// <summary>Why <see cref="IsSupported"/> is false; null when it is true.</summary>
    public static string? NotSupportedReason => AutocastState.NotSupportedReason;

    /// <summary>The device that this scope affects.</summary>
    public DeviceType Device { get; }

    /// <summary>Whether this scope turned autocast on (not: off).</summary>
    public bool Enabled { get; }

    /// <summary>Whether operations on <paramref name="device"/> are cast on this thread now.</summary>
    public static bool IsEnabled(DeviceType device = DeviceType.CPU) => IsSupported && AutocastState.IsEnabled(Checked(device));

    /// <summary>The type that operations on <paramref name="device"/> compute in on this thread where autocast is on.</summary>
    /// <exception cref="PlatformNotSupportedException">See <see cref="NotSupportedReason"/>.</exception>
    public static ScalarType ElementType(DeviceType device = DeviceType.CPU)
    {
        RequireSupported();
        return AutocastState.ElementType(Checked(device));
    }

    /// <summary>Ends the scope; a second time does nothing.</summary>
    /// <exception cref="InvalidOperationException">Called on another thread than the one that began it: the state is each thread's own.</exception>
    public void Dispose()
    {
        if (_ended)
            return;
        if (Environment.CurrentManagedThreadId != _thread)
            throw new InvalidOperationException("An Autocast scope must end on the thread that began it (an `await` inside may change threads). Keep the scope around synchronous code only.");
        _ended = true;
        AutocastState.Leave();
        AutocastState.Set(Device, _before.Enabled, _before.Type, _before.Cache);
    }

    internal static void RequireSupported()
    {
        if (!IsSupported)
            throw new PlatformNotSupportedException($"Autocast, which mixed precision needs, does not work here: {NotSupportedReason}. Use precision: \"32-true\", or \"bf16-true\" on hardware that computes in bfloat16.");
    }

    private static DeviceType Checked(DeviceType device) => device is DeviceType.CPU or DeviceType.CUDA or DeviceType.MPS
        ? device
        : throw new ArgumentException($"Autocast(device: {device}): the accepted devices are CPU, CUDA and MPS.", nameof(device));

    private static bool IsPossible(DeviceType device, ScalarType type)
    {
        if (type is not (ScalarType.BFloat16 or ScalarType.Float16))
        {
            PrecisionNotices.WarnOnce($"In {device} autocast, but the target dtype {type} is not supported. Disabling autocast. Supported: BFloat16, Float16.");
            return false;
        }

        if (device != DeviceType.CUDA || cuda.is_available())
            return true;
        PrecisionNotices.WarnOnce("User provided device_type of 'cuda', but CUDA is not available. Disabling autocast.");
        return false;
    }
}
