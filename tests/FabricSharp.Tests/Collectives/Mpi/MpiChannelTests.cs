using FabricSharp.Collectives.Mpi;

namespace FabricSharp.Tests.Collectives.Mpi;

public class MpiChannelTests
{
    /// <summary>64 operations and 4 pieces can be under way at once; every MPI has tags up to 32767, and those from 16384 are for messages.</summary>
    [Fact]
    public void TagOf_WhatCanBeUnderWayTogether_Differs()
    {
        foreach (var firstOperation in new[] { 1L, 100, 1L << 40 })
            foreach (var firstPiece in new[] { 0L, 30, 1L << 33 })
            {
                var tags = new HashSet<int>();
                for (var operation = 0; operation < 64; operation++)
                    for (var piece = 0; piece < 4; piece++)
                        for (var phase = 0; phase < 2; phase++)
                            Assert.True(tags.Add(MpiChannel.TagOf(firstOperation + operation, firstPiece + piece, phase)));
                Assert.True(tags.Min() > MpiChannel.ControlTag);
                Assert.True(tags.Max() < MpiChannel.MessageTag);
            }
    }
}
