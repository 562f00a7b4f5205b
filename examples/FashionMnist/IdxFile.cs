using System.Buffers.Binary;
using System.IO.Compression;

namespace FabricSharp.Examples.FashionMnist;

/// <summary>A gzipped IDX file of bytes: zero, zero, 8 (unsigned byte), number of dimensions, each dimension as a big-endian int32, content.</summary>
internal sealed record IdxFile(long[] Shape, byte[] Content)
{
    private const int LargestContent = 1 << 30;

    public static IdxFile Read(string path, int dimensions)
    {
        try
        {
            using var stream = new GZipStream(File.OpenRead(path), CompressionMode.Decompress);
            var header = new byte[4 + 4 * dimensions];
            stream.ReadExactly(header);
            if (header[0] != 0 || header[1] != 0 || header[2] != 8 || header[3] != dimensions)
                throw new InvalidDataException($"{path} is no IDX file of bytes with {dimensions} dimensions.");
            var shape = Enumerable.Range(0, dimensions).Select(d => (long)BinaryPrimitives.ReadInt32BigEndian(header.AsSpan(4 + 4 * d))).ToArray();
            if (shape.Any(size => size < 1) || shape.Aggregate(1.0, (product, size) => product * size) > LargestContent)
                throw new InvalidDataException($"{path} claims the impossible shape [{string.Join(", ", shape)}].");
            var content = new byte[shape.Aggregate(1L, (product, size) => product * size)];
            stream.ReadExactly(content);
            return new IdxFile(shape, content);
        }
        catch (EndOfStreamException e)
        {
            throw new InvalidDataException($"{path} ends too early: it is damaged.", e);
        }
    }
}
