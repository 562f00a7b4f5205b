using System.Collections;
using CsCheck;
using FabricSharp.DataParallel;

namespace FabricSharp.Tests.DataParallel;

public class ControlMessageTests
{
    private static readonly Gen<ControlMessage> Messages = Gen.Select(
        Gen.Long, Gen.Int, Gen.Int[0, 7], Gen.Bool.Array[1, 200],
        (passes, launched, state, used) => new ControlMessage(passes, launched, (PassState)state, new BitArray(used)));

    [Fact]
    public void Decode_OfEncode_IsTheMessage() => Gen.Select(Messages, Gen.Int[0, 3]).Sample(
        (message, rank) =>
        {
            var bytes = message.Encode();
            Assert.Equal(ControlMessage.SizeFor(message.Used.Length), bytes.Length);
            var all = new byte[4 * bytes.Length];
            new Random(1).NextBytes(all); // what other ranks say must not matter
            bytes.CopyTo(all, rank * bytes.Length);
            var decoded = ControlMessage.Decode(all, rank, message.Used.Length);
            Assert.Equal((message.ForwardPasses, message.Launched, message.State), (decoded.ForwardPasses, decoded.Launched, decoded.State));
            Assert.Equal(message.Used.Cast<bool>(), decoded.Used.Cast<bool>());
        },
        iter: 500, threads: 1);

    [Theory]
    [InlineData(1, 17)]
    [InlineData(8, 17)]
    [InlineData(9, 18)]
    [InlineData(10_000, 1266)]
    public void SizeFor_Parameters_IsAHeaderAndABitEach(int parameters, int bytes) => Assert.Equal(bytes, ControlMessage.SizeFor(parameters));

    [Fact]
    public void Encode_Always_IsLittleEndian()
    {
        var bytes = new ControlMessage(0x0102, 3, PassState.StaticGraph, new BitArray([true, false, true])).Encode();
        Assert.Equal("0201000000000000" + "03000000" + "02000000" + "05", Convert.ToHexString(bytes));
    }
}
