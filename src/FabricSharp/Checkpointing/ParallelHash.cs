using System.Security.Cryptography;

namespace FabricSharp.Checkpointing;

/// <summary>SHA-256 of bytes while something else is done with the same bytes: one thread of the pool hashes them, the caller does the other.</summary>
internal sealed unsafe class ParallelHash : IDisposable
{
    /// <summary>Below that, handing over costs more than hashing.</summary>
    private const int Threshold = 256 << 10;

    private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);

    public delegate void Work(ReadOnlySpan<byte> bytes);

    /// <summary>Hashes <paramref name="bytes"/> and runs <paramref name="work"/> on them; returns when both are done.</summary>
    public void Append(ReadOnlySpan<byte> bytes, Work work)
    {
        if (bytes.Length < Threshold)
        {
            _hash.AppendData(bytes);
            work(bytes);
            return;
        }

        fixed (byte* start = bytes)
        {
            var hashing = Begin((IntPtr)start, bytes.Length);
            try
            {
                work(bytes);
            }
            finally
            {
                hashing.Wait(); // it reads the caller's memory
            }
        }
    }

    /// <summary>Begins to hash memory that stays as it is until the task has ended.</summary>
    public Task Begin(IntPtr start, int length) => Task.Run(() => _hash.AppendData(new ReadOnlySpan<byte>((byte*)start, length)));

    /// <summary>As 64 lower-case hexadecimal digits.</summary>
    public string Finish() => Convert.ToHexStringLower(_hash.GetHashAndReset());

    public void Dispose() => _hash.Dispose();
}
