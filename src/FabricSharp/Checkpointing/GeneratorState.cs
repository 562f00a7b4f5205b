using System.Buffers.Binary;
using System.Text.Json;

namespace FabricSharp.Checkpointing;

/// <summary>
/// The bytes that libtorch gives as the state of a generator on the CPU, a Mersenne twister: seed (8 bytes), numbers left (4), whether it was seeded (4), next
/// number (8), 624 numbers of 8 bytes, and what normal distributions have kept. Setting a state that is none ends the process, so it is looked at before.
/// </summary>
internal static class GeneratorState
{
    private const int Length = 5056;
    private const int Numbers = 624;

    /// <exception cref="JsonException">It is none.</exception>
    public static void Require(byte[]? state)
    {
        if (state?.Length != Length)
            throw new JsonException($"it has {state?.Length ?? 0} bytes instead of {Length}");
        var left = BinaryPrimitives.ReadInt32LittleEndian(state.AsSpan(8));
        var seeded = BinaryPrimitives.ReadInt32LittleEndian(state.AsSpan(12));
        var next = BinaryPrimitives.ReadUInt64LittleEndian(state.AsSpan(16));
        if (left is < 1 or > Numbers || seeded != 1 || next > Numbers)
            throw new JsonException($"its counters are {left}, {seeded} and {next}");
    }
}
