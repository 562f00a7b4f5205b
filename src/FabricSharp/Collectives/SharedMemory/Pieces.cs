namespace FabricSharp.Collectives.SharedMemory;

/// <summary>The cut of many elements into pieces that fit a slot.</summary>
internal static class Pieces
{
    /// <summary>How many pieces; one at least, so that an empty tensor is an operation, too.</summary>
    public static long Count(long elements, long elementsPerPiece) => Math.Max(1, (elements + elementsPerPiece - 1) / elementsPerPiece);

    /// <summary>Piece <paramref name="index"/> of them.</summary>
    public static (long Begin, long Length) At(long index, long elements, long elementsPerPiece)
    {
        var begin = index * elementsPerPiece;
        return (begin, Math.Min(elementsPerPiece, elements - begin));
    }
}
