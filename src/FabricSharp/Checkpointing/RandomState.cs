using System.Text.Json;
using static TorchSharp.torch;

namespace FabricSharp.Checkpointing;

/// <summary>
/// Stands for the random number generators of this process in the <c>state</c> of a checkpoint: saving captures where each rank's are, loading
/// puts them back, so that dropout and the like go on with the same numbers.
/// </summary>
/// <remarks>
/// Captured are TorchSharp's generator for the CPU, bit for bit, and the generators given. The state of CUDA generators cannot be reached in
/// TorchSharp: loading seeds them with a number drawn from the state that was saved, so that a resumed run is reproducible and does not repeat
/// numbers, but is not to the bit the run that was not interrupted. <see cref="Random"/> objects of the program are not covered: save their seeds.
/// Ranks that are threads share one generator. Loading with another number of ranks than saved leaves the generators as they are, with a warning.
/// </remarks>
/// <param name="generators">Further generators on the CPU, in the same order when saving and loading. <value>Default none.</value></param>
public sealed class RandomState(params Generator[] generators)
{
    private readonly Generator[] _generators = generators ?? throw new ArgumentNullException(nameof(generators));

    /// <param name="Cpu">TorchSharp's generator for the CPU.</param>
    /// <param name="Generators">Those of the user.</param>
    private sealed record Stored(byte[] Cpu, IReadOnlyList<byte[]> Generators);

    internal JsonElement Capture()
    {
        using var state = get_rng_state();
        return JsonSerializer.SerializeToElement(new Stored(BytesOf(state), [.. _generators.Select(BytesOf)]), OptimizerDescription.Json);
    }

    /// <summary>Checks that <paramref name="stored"/> fits.</summary>
    /// <returns>Sets the generators.</returns>
    /// <exception cref="CheckpointException">It does not, or is corrupt.</exception>
    internal Action PlanRestore(JsonElement stored, string what)
    {
        try
        {
            var state = stored.Deserialize<Stored>(OptimizerDescription.Json) ?? throw new JsonException("it is null");
            if (state.Generators.Count != _generators.Length)
                throw new JsonException($"it is of {state.Generators.Count} generators besides TorchSharp's own, here are {_generators.Length}");
            foreach (var bytes in state.Generators.Prepend(state.Cpu))
                GeneratorState.Require(bytes);
            return () => Restore(state);
        }
        catch (JsonException e)
        {
            throw new CheckpointException($"{what} is no state of these random number generators: {e.Message}. Nothing was changed.", e);
        }
    }

    private void Restore(Stored state)
    {
        Set(set_rng_state, state.Cpu);
        foreach (var (generator, bytes) in _generators.Zip(state.Generators))
            Set(generator.set_state, bytes);
        if (cuda.is_available())
            cuda.manual_seed_all(BitConverter.ToInt64(System.Security.Cryptography.SHA256.HashData(state.Cpu)) & long.MaxValue);
    }

    private static void Set(Action<Tensor> set, byte[] bytes)
    {
        using var state = tensor(bytes, ScalarType.Byte);
        set(state);
    }

    private static byte[] BytesOf(Generator generator)
    {
        using var state = generator.get_state();
        return BytesOf(state);
    }

    private static byte[] BytesOf(Tensor state) => state.data<byte>().ToArray();
}
