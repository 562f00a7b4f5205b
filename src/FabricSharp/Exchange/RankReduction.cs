using FabricSharp.Collectives;
using FabricSharp.Data;
using static TorchSharp.torch;

namespace FabricSharp.Exchange;

/// <summary>Combines the values of all ranks, leaf by leaf where they are collections. Every method is collective.</summary>
/// <param name="group">The ranks.</param>
/// <param name="isMean">Whether the mean is taken; otherwise the sum.</param>
internal sealed class RankReduction(ProcessGroup group, bool isMean)
{
    /// <summary>Tensors in place; numbers by new ones of their type.</summary>
    public T Reduce<T>(T data) => TensorTree.Map(data, Reduce, Reduce);

    /// <summary>In place.</summary>
    public Tensor Reduce(Tensor tensor)
    {
        var isReal = tensor.dtype.IsFloatingPoint();
        group.AllReduce(tensor, isMean && isReal ? ReduceOp.Average : ReduceOp.Sum).Wait();
        if (isMean && !isReal)
        {
            using var gradientsOff = no_grad();
            using TorchSharp.Scalar size = group.Size; // held: TorchSharp lets the finaliser free a number that it made itself during the call
            tensor.div_(size, RoundingMode.trunc);
        }

        return tensor;
    }

    /// <summary>A new array. Reals travel as float64, integers as int64.</summary>
    private Array Reduce(Array numbers)
    {
        var type = numbers.GetType().GetElementType()!;
        var result = Array.CreateInstance(type, numbers.Length);
        if (type == typeof(double) || type == typeof(float))
            Fill(result, Reduced([.. numbers.Cast<object>().Select(number => Convert.ToDouble(number, null))]));
        else
            Fill(result, Reduced([.. numbers.Cast<object>().Select(number => Convert.ToInt64(number, null))]));
        return result;
    }

    private double[] Reduced(double[] numbers)
    {
        using var values = tensor(numbers, device: group.TensorDevice);
        using var result = Reduce(values).cpu();
        return result.data<double>().ToArray();
    }

    private long[] Reduced(long[] numbers)
    {
        using var values = tensor(numbers, device: group.TensorDevice);
        using var result = Reduce(values).cpu();
        return result.data<long>().ToArray();
    }

    /// <exception cref="OverflowException">A sum does not fit the type of the numbers.</exception>
    private static void Fill<T>(Array result, T[] values)
    {
        for (var i = 0; i < values.Length; i++)
            result.SetValue(Convert.ChangeType(values[i], result.GetType().GetElementType()!, null), i);
    }
}
