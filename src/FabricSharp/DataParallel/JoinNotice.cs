using System.Buffers.Binary;

namespace FabricSharp.DataParallel;

/// <summary>What a rank says before each collective part of a step while ranks may run out of data.</summary>
/// <param name="Kind">What comes next on this rank.</param>
/// <param name="Model">Which of the joined models, from 0.</param>
internal readonly record struct JoinNotice(JoinNoticeKind Kind, int Model)
{
    public const int Size = 8;

    public void Encode(Span<byte> bytes)
    {
        BinaryPrimitives.WriteInt32LittleEndian(bytes, (int)Kind);
        BinaryPrimitives.WriteInt32LittleEndian(bytes[4..], Model);
    }

    public static JoinNotice Decode(ReadOnlySpan<byte> bytes) =>
        new((JoinNoticeKind)BinaryPrimitives.ReadInt32LittleEndian(bytes), BinaryPrimitives.ReadInt32LittleEndian(bytes[4..]));

    public override string ToString() => Kind switch
    {
        JoinNoticeKind.Forward => $"a forward pass of model {Model}",
        JoinNoticeKind.Pass => $"the averaging of model {Model}'s gradients",
        _ => "out of data",
    };
}

/// <summary>What comes next on a rank.</summary>
internal enum JoinNoticeKind
{
    /// <summary>A forward pass that is to be synchronised.</summary>
    Forward = 1,

    /// <summary>The end of a backward pass.</summary>
    Pass = 2,

    /// <summary>Nothing: the rank is out of data.</summary>
    Ended = 3,

    /// <summary>Nothing: the rank is out of data, and that ends all ranks.</summary>
    EndsAll = 4,
}
