namespace FabricSharp.Data;

/// <summary>Steele, Lea and Flood's generator: 64 bits of state, which are its seed, and every seed gives another sequence.</summary>
internal sealed class SplitMix64(ulong seed) : Random
{
    private const ulong Golden = 0x9E3779B97F4A7C15;
    private ulong _state = seed;

    /// <summary>A bijection whose every output bit depends on every input bit.</summary>
    public static ulong Mix(ulong value)
    {
        value += Golden;
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
        return value ^ (value >> 31);
    }

    public override int Next() => (int)(NextBits() % int.MaxValue);

    public override void NextBytes(byte[] buffer) => NextBytes(buffer.AsSpan());

    public override void NextBytes(Span<byte> buffer)
    {
        foreach (ref var value in buffer)
            value = (byte)(NextBits() >> 56);
    }

    protected override double Sample() => (NextBits() >> 11) * (1.0 / (1L << 53));

    private ulong NextBits()
    {
        var bits = Mix(_state);
        _state += Golden;
        return bits;
    }
}
