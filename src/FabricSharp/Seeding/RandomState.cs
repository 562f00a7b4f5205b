using static TorchSharp.torch;

namespace FabricSharp.Seeding;

/// <summary>
/// Where TorchSharp's random numbers stand on the CPU, to go on with the same ones later: <c>state["random"] = RandomState.Collect()</c>. Plain bytes, so that a
/// checkpoint takes it. The generators of GPUs are not part of it: TorchSharp gives no access to their state.
/// </summary>
/// <param name="Cpu">The state of libtorch's default generator of the CPU.</param>
public sealed record RandomState(byte[] Cpu)
{
    /// <summary>The state as it is now. Local.</summary>
    public static RandomState Collect()
    {
        using var state = random.get_rng_state();
        return new RandomState(state.data<byte>().ToArray());
    }

    /// <summary>Random numbers go on from here. Local.</summary>
    /// <exception cref="ArgumentException">These are not the bytes of a state.</exception>
    public void Restore()
    {
        using var current = random.get_rng_state();
        if (Cpu.LongLength != current.numel())
            throw new ArgumentException($"The state of a generator has {current.numel()} bytes, this one has {Cpu.LongLength}: it is of another version of libtorch, or of something else.", nameof(Cpu));
        using var state = tensor(Cpu);
        random.set_rng_state(state);
    }
}
