using System.Globalization;
using System.Runtime.InteropServices;
using FabricSharp.Interop.Nccl;

namespace FabricSharp.Tests.Collectives.Nccl;

/// <summary>Arithmetic of the simulated NCCL, element by element, in the order of the ranks.</summary>
internal static unsafe class FakeReduction
{
    public static int SizeOf(NcclType type) => type switch
    {
        NcclType.Int8 or NcclType.UInt8 => 1,
        NcclType.Float16 or NcclType.BFloat16 => 2,
        NcclType.Int32 or NcclType.UInt32 or NcclType.Float32 => 4,
        _ => 8,
    };

    /// <summary>How much a rank gives to an operation, read off its description.</summary>
    public static long InputBytesOf(string call, int size)
    {
        var words = call.Split(' ');
        var part = long.Parse(words[1], CultureInfo.InvariantCulture) * SizeOf(Enum.Parse<NcclType>(words[2]));
        return words[0] == "reducescatter" ? part * size : part;
    }

    public static byte[] Snapshot(IntPtr data, long bytes) => new ReadOnlySpan<byte>((void*)data, (int)bytes).ToArray();

    public static void Copy(byte[] from, long offset, long bytes, IntPtr to) => from.AsSpan((int)offset, (int)bytes).CopyTo(new Span<byte>((void*)to, (int)bytes));

    public static double Read(IntPtr data, long index, NcclType type) => type switch
    {
        NcclType.Float16 => (double)((Half*)data)[index],
        NcclType.BFloat16 => BitConverter.UInt32BitsToSingle((uint)((ushort*)data)[index] << 16),
        NcclType.Float32 => ((float*)data)[index],
        _ => ((double*)data)[index],
    };

    public static void Apply(byte[][] all, double factor, int op, NcclType type, long begin, long count, IntPtr to)
    {
        var pins = Array.ConvertAll(all, bytes => GCHandle.Alloc(bytes, GCHandleType.Pinned));
        try
        {
            var inputs = Array.ConvertAll(pins, pin => pin.AddrOfPinnedObject());
            for (var i = 0L; i < count; i++)
                if (type is NcclType.Float16 or NcclType.BFloat16 or NcclType.Float32 or NcclType.Float64)
                    Write(to, i, type, Real(inputs, factor, op, type, begin + i));
                else
                    WriteWhole(to, i, type, Whole(inputs, op, type, begin + i));
        }
        finally
        {
            Array.ForEach(pins, pin => pin.Free());
        }
    }

    private static double Real(IntPtr[] inputs, double factor, int op, NcclType type, long index)
    {
        var result = Read(inputs[0], index, type) * factor;
        for (var rank = 1; rank < inputs.Length; rank++)
        {
            var next = Read(inputs[rank], index, type) * factor;
            result = (NcclReduction)op switch
            {
                NcclReduction.Product => result * next,
                NcclReduction.Max => Math.Max(result, next),
                NcclReduction.Min => Math.Min(result, next),
                NcclReduction.Sum when type != NcclType.Float64 => (float)(result + next),
                _ => result + next,
            };
        }

        return op == (int)NcclReduction.Average ? result / inputs.Length : result;
    }

    private static long Whole(IntPtr[] inputs, int op, NcclType type, long index)
    {
        var result = ReadWhole(inputs[0], index, type);
        for (var rank = 1; rank < inputs.Length; rank++)
        {
            var next = ReadWhole(inputs[rank], index, type);
            result = unchecked((NcclReduction)op switch
            {
                NcclReduction.Sum => result + next,
                NcclReduction.Product => result * next,
                NcclReduction.Max => Math.Max(result, next),
                NcclReduction.Min => Math.Min(result, next),
                _ => throw new InvalidOperationException($"Operation {op} of whole numbers."),
            });
        }

        return result;
    }

    private static long ReadWhole(IntPtr data, long index, NcclType type) => type switch
    {
        NcclType.Int8 => ((sbyte*)data)[index],
        NcclType.UInt8 => ((byte*)data)[index],
        NcclType.Int32 => ((int*)data)[index],
        _ => ((long*)data)[index],
    };

    private static void WriteWhole(IntPtr data, long index, NcclType type, long value)
    {
        if (type == NcclType.Int8)
            ((sbyte*)data)[index] = unchecked((sbyte)value);
        else if (type == NcclType.UInt8)
            ((byte*)data)[index] = unchecked((byte)value);
        else if (type == NcclType.Int32)
            ((int*)data)[index] = unchecked((int)value);
        else
            ((long*)data)[index] = value;
    }

    private static void Write(IntPtr data, long index, NcclType type, double value)
    {
        if (type == NcclType.Float16)
            ((Half*)data)[index] = (Half)value;
        else if (type == NcclType.BFloat16)
            ((ushort*)data)[index] = Narrow((float)value);
        else if (type == NcclType.Float32)
            ((float*)data)[index] = (float)value;
        else
            ((double*)data)[index] = value;
    }

    private static ushort Narrow(float value)
    {
        var bits = BitConverter.SingleToUInt32Bits(value);
        return float.IsNaN(value) ? (ushort)0x7fc0 : (ushort)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
}
