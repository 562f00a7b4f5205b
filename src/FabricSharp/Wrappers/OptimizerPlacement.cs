using System.Reflection;
using FabricSharp.Checkpointing;
using FabricSharp.Interop.LibTorch;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Wrappers;

/// <summary>
/// Brings the state of an optimizer to the device and element type of its parameters, as PyTorch does when it loads one: TorchSharp makes
/// state when the optimizer is made, which may be before the module is converted.
/// </summary>
internal static class OptimizerPlacement
{
    public static void FollowParameters(optim.Optimizer optimizer)
    {
        if ((optimizer as IShardedOptimizer)?.Inner is { } inner)
            optimizer = inner;
        if (optimizer is not OptimizerHelper helper)
            return; // LBFGS makes its state at the first step
        using var gradientsOff = no_grad();
        foreach (var (parameter, state) in helper.parameters().Zip(helper.state_dict().State))
            foreach (var tensor in TensorsOf(state))
                if (tensor.is_floating_point() && tensor.shape.SequenceEqual(parameter.shape))
                    Follow(tensor, parameter);
    }

    private static void Follow(Tensor state, Parameter parameter)
    {
        if (state.dtype == parameter.dtype && state.device_type == parameter.device_type && state.device_index == parameter.device_index)
            return;
        using var converted = state.to(parameter.dtype, parameter.device);
        TensorData.Set(state, converted);
    }

    private static IEnumerable<Tensor> TensorsOf(TorchSharp.Modules.OptimizerState state)
    {
        for (var level = state.GetType(); level is not null; level = level.BaseType)
            foreach (var field in level.GetFields(BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly))
                if (field.GetValue(state) is Tensor { IsInvalid: false } tensor)
                    yield return tensor;
    }
}
