using FabricSharp.Collectives.Stores;
using static FabricSharp.Tests.Collectives.Stores.RawStoreClient;

namespace FabricSharp.Tests.Collectives.Stores;

/// <summary>The bytes of each request and reply, as PyTorch's TCPStore speaks them.</summary>
public sealed class TcpStoreWireTests : IDisposable
{
    private const byte Set = 1, CompareSet = 2, Get = 3, Add = 4, Check = 5, Wait = 6, GetNumKeys = 7, DeleteKey = 8, Append = 9,
        MultiGet = 10, MultiSet = 11, CancelWait = 12, Ping = 13, QueuePush = 14, QueuePop = 15, QueueLen = 16, ListKeys = 17;

    private readonly TcpStoreServer _server = new(0);
    private readonly RawStoreClient _client;

    public TcpStoreWireTests() => _client = new RawStoreClient(_server.Port);

    public void Dispose()
    {
        _client.Dispose();
        _server.Dispose();
    }

    [Fact]
    public void Literal_SetAndGet_AreTheseBytes()
    {
        _client.Send(Bytes("01 02 00 00 00 00 00 00 00 2F 6B 03 00 00 00 00 00 00 00 61 62 63"));
        _client.Send(Bytes("03 02 00 00 00 00 00 00 00 2F 6B"));
        _client.Expect(Bytes("03 00 00 00 00 00 00 00 61 62 63"));
    }

    [Fact]
    public void Literal_Add_IsTheseBytes()
    {
        _client.Send(Bytes("04 05 00 00 00 00 00 00 00 69 6E 69 74 2F FE FF FF FF FF FF FF FF"));
        _client.Expect(Bytes("FE FF FF FF FF FF FF FF"));
    }

    [Fact]
    public void Get_MissingKey_IsAnEmptyValue()
    {
        _client.Send([Get], Item("/missing"));
        _client.Expect(Number(0));
    }

    [Fact]
    public void Add_Number_IsKeptAsDecimalText()
    {
        _client.Send([Add], Item("/c"), Number(5), [Add], Item("/c"), Number(-7), [Get], Item("/c"));
        _client.Expect(Number(5), Number(-2), Item("-2"));
    }

    [Fact]
    public void CompareSet_FourCases_AnswerByTheTable()
    {
        _client.Send([CompareSet], Item("/k"), Item("other"), Item("new"));
        _client.Expect(Item("other"));
        _client.Send([CompareSet], Item("/k"), Item(""), Item("new"));
        _client.Expect(Item("new"));
        _client.Send([CompareSet], Item("/k"), Item("other"), Item("newer"));
        _client.Expect(Item("new"));
        _client.Send([CompareSet], Item("/k"), Item("new"), Item("newer"));
        _client.Expect(Item("newer"));
    }

    [Fact]
    public void Check_Keys_IsZeroWhenAllAreThere()
    {
        _client.Send([Set], Item("/a"), Item(""));
        _client.Send([Check], Number(1), Item("/a"), [Check], Number(2), Item("/a"), Item("/b"), [Check], Number(0));
        _client.Expect([0], [1], [0]);
    }

    [Fact]
    public void Wait_KeysThere_AnswersZero()
    {
        _client.Send([Set], Item("/a"), Item(""), [Wait], Number(1), Item("/a"));
        _client.Expect([0]);
    }

    [Fact]
    public void Wait_KeySetByAnother_AnswersZeroThen()
    {
        using var other = new RawStoreClient(_server.Port);
        _client.Send([Wait], Number(2), Item("/a"), Item("/b"));
        other.Send([Set], Item("/a"), Item(""), [Check], Number(1), Item("/a"));
        other.Expect([0]);
        _client.ExpectSilence();
        other.Send([Set], Item("/b"), Item(""));
        _client.Expect([0]);
    }

    [Fact]
    public void Wait_Cancelled_AnswersOne()
    {
        _client.Send([Wait], Number(1), Item("/a"));
        _client.Send([CancelWait]);
        _client.Expect([1]);
        _client.Send([Ping], Bytes("01 02 03 04"));
        _client.Expect(Bytes("01 02 03 04"));
    }

    [Fact]
    public void Wait_CancelledAfterTheKeysCame_AnswersZeroAndOne()
    {
        _client.Send([Set], Item("/a"), Item(""), [Wait], Number(1), Item("/a"), [CancelWait]);
        _client.Expect([0], [1]);
    }

    [Fact]
    public void Wait_ThenAnotherRequestAfterTheReply_Works()
    {
        using var other = new RawStoreClient(_server.Port);
        _client.Send([Wait], Number(1), Item("/a"));
        _client.ExpectSilence();
        other.Send([Set], Item("/a"), Item("x"));
        _client.Expect([0]);
        _client.Send([Get], Item("/a"));
        _client.Expect(Item("x"));
    }

    [Fact]
    public void Numbers_OfKeysAndDeletions_AreSigned64()
    {
        _client.Send([Set], Item("/a"), Item(""), [Add], Item("init/"), Number(1), [GetNumKeys]);
        _client.Expect(Number(1), Number(2));
        _client.Send([DeleteKey], Item("/a"), [DeleteKey], Item("/a"), [GetNumKeys]);
        _client.Expect(Number(1), Number(0), Number(1));
    }

    [Fact]
    public void Append_Twice_Concatenates()
    {
        _client.Send([Append], Item("/a"), Item("x"), [Append], Item("/a"), Item("yz"), [Get], Item("/a"));
        _client.Expect(Item("xyz"));
    }

    [Fact]
    public void MultiSetAndMultiGet_KeepTheOrder()
    {
        _client.Send([MultiSet], Number(2), Item("/a"), Item("A"), Item("/b"), Item(""));
        _client.Send([MultiGet], Number(3), Item("/b"), Item("/a"), Item("/none"));
        _client.Expect(Item(""), Item("A"), Item(""));
    }

    [Fact]
    public void Queue_PushAndPop_IsFirstInFirstOut()
    {
        _client.Send([QueuePop], Item("/q"), [QueueLen], Item("/q"));
        _client.Expect(Number(0), Number(0));
        _client.Send([QueuePush], Item("/q"), Item("one"), [QueuePush], Item("/q"), Item("two"), [QueueLen], Item("/q"));
        _client.Expect(Number(2));
        _client.Send([QueuePop], Item("/q"), [QueuePop], Item("/q"), [QueuePop], Item("/q"));
        _client.Expect(Number(2), Item("one"), Number(1), Item("two"), Number(0));
    }

    [Fact]
    public void Queue_PushOfOne_WakesOneOfTwo()
    {
        using var first = new RawStoreClient(_server.Port);
        using var second = new RawStoreClient(_server.Port);
        first.Send([Wait], Number(1), Item("/q"));
        first.ExpectSilence();
        second.Send([Wait], Number(1), Item("/q"));
        second.ExpectSilence();
        _client.Send([QueuePush], Item("/q"), Item("x"));
        first.Expect([0]);
        second.ExpectSilence();
        first.Send([QueuePop], Item("/q"));
        first.Expect(Number(1), Item("x"));
        second.Send([CancelWait]);
        second.Expect([1]);
    }

    [Fact]
    public void ListKeys_Always_GivesTheBytesThatWereSet()
    {
        _client.Send([Set], Item("/\u00ff\u0080"), Item(""), [ListKeys]);
        _client.Expect(Number(1), Item("/\u00ff\u0080"));
    }

    [Fact]
    public void Requests_InOneSend_AreAnsweredInOrder()
    {
        var many = Enumerable.Range(0, 500).SelectMany(i => new[] { [Add], Item("/c"), Number(1) }).ToArray();
        _client.Send(many);
        _client.Expect([.. Enumerable.Range(1, 500).Select(i => Number(i))]);
    }

    [Fact]
    public void Request_ByteByByte_IsTheSame()
    {
        _client.Dribble([Set], Item("/key"), Item("value"), [Get], Item("/key"));
        _client.Expect(Item("value"));
    }

    [Fact]
    public void Session_ClientLeaves_IsForgotten()
    {
        using (var other = new RawStoreClient(_server.Port))
        {
            other.Send([Wait], Number(1), Item("/never"));
            Assert.Equal(2, _server.SessionCount);
        }

        Assert.True(SpinWait.SpinUntil(() => _server.SessionCount == 1, TimeSpan.FromSeconds(20)));
    }
}
