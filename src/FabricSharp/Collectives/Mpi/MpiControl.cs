using System.Runtime.InteropServices;
using System.Text;
using static TorchSharp.torch;

namespace FabricSharp.Collectives.Mpi;

internal enum MpiControlKind
{
    /// <summary>The sender has a message.</summary>
    Announce,

    /// <summary>The receiver wants it.</summary>
    Accept,

    /// <summary>The receiver wants another one.</summary>
    Refuse,

    /// <summary>The rank does nothing more, after as many operations as its number says; -1: it has given some up.</summary>
    Left,

    /// <summary>A rank, the number, cannot go on; on the sender operations have ended up to the count.</summary>
    Abort,
}

internal struct MpiControlMessage
{
    public long Number;
    public long Count;
    public int Tag;
    public ScalarType Type;
    public MpiControlKind Kind;
    public int TextBytes;
}

/// <summary>What ranks tell each other outside of operations, in order for each pair. Under the runtime's lock.</summary>
internal sealed unsafe class MpiControl
{
    private readonly MpiChannel _channel;
    private readonly int _bytes;
    private readonly byte* _received;
    private readonly IntPtr[] _requests;
    private readonly List<(IntPtr Request, IntPtr Memory)> _sent = [];

    public MpiControl(MpiChannel channel, int bytes)
    {
        (_channel, _bytes) = (channel, bytes);
        _received = (byte*)NativeMemory.Alloc((nuint)((long)bytes * channel.Size));
        _requests = new IntPtr[channel.Size];
        for (var rank = 0; rank < channel.Size; rank++)
            Ask(rank);
    }

    public bool HasSentAll => _sent.Count == 0;

    public void SendToAll(MpiControlKind kind, long number, string text, long count = 0)
    {
        for (var rank = 0; rank < _channel.Size; rank++)
            if (rank != _channel.Rank)
                Send(rank, new MpiControlMessage { Kind = kind, Number = number, Count = count }, text);
    }

    public void Send(int peer, MpiControlMessage message, string text = "")
    {
        var content = Encoding.UTF8.GetBytes(text);
        message.TextBytes = Math.Min(content.Length, _bytes - sizeof(MpiControlMessage));
        while (message.TextBytes < content.Length && (content[message.TextBytes] & 0xc0) == 0x80) // not within a character
            message.TextBytes--;
        var memory = (byte*)NativeMemory.Alloc((nuint)_bytes);
        *(MpiControlMessage*)memory = message;
        content.AsSpan(0, message.TextBytes).CopyTo(new Span<byte>(memory + sizeof(MpiControlMessage), message.TextBytes));
        _sent.Add((_channel.Api.Send(memory, sizeof(MpiControlMessage) + message.TextBytes, peer, MpiChannel.ControlTag, _channel.Communicator), (IntPtr)memory));
    }

    /// <summary>Gives what has come to <paramref name="receive"/>.</summary>
    public bool Advance(Action<int, MpiControlMessage, string> receive)
    {
        var moved = false;
        for (var i = _sent.Count - 1; i >= 0; i--)
            if (_channel.Api.Test(_sent[i].Request))
            {
                NativeMemory.Free((void*)_sent[i].Memory);
                _sent.RemoveAt(i);
            }

        for (var rank = 0; rank < _channel.Size; rank++)
            while (rank != _channel.Rank && _requests[rank] != 0 && _channel.Api.Test(_requests[rank]))
            {
                moved = true;
                var memory = _received + (long)rank * _bytes;
                var message = *(MpiControlMessage*)memory;
                var text = Encoding.UTF8.GetString(memory + sizeof(MpiControlMessage), Math.Clamp(message.TextBytes, 0, _bytes - sizeof(MpiControlMessage)));
                _requests[rank] = 0;
                if (message.Kind != MpiControlKind.Left) // its last
                    Ask(rank);
                receive(rank, message, text);
            }

        return moved;
    }

    /// <summary>Listens no more: MPI is about to end.</summary>
    public void Close()
    {
        for (var rank = 0; rank < _requests.Length; rank++)
        {
            if (_requests[rank] == 0)
                continue;
            _channel.Api.Cancel(_requests[rank]);
            _channel.Api.Test(_requests[rank]);
            _requests[rank] = 0;
        }
    }

    private void Ask(int rank)
    {
        if (rank != _channel.Rank)
            _requests[rank] = _channel.Api.Receive(_received + (long)rank * _bytes, _bytes, rank, MpiChannel.ControlTag, _channel.Communicator);
    }
}
