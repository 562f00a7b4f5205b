using CsCheck;
using FabricSharp.Tests.Collectives.Cases;

namespace FabricSharp.Tests.Collectives;

/// <summary>Every case with several numbers of ranks. Back ends whose ranks must be processes override <see cref="RunCase"/>.</summary>
public abstract class CollectiveConformance
{
    protected abstract string Backend { get; }

    public static TheoryData<string, int> CasesAndRanks => [.. from name in CollectiveCases.All.Keys from ranks in new[] { 2, 3, 4, 8 } select (name, ranks)];

    [Theory]
    [MemberData(nameof(CasesAndRanks))]
    public void Case_WithRanks_Holds(string name, int ranks) => RunCase(name, ranks);

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void Calls_AnyProgram_GiveWhatThePlainGroupGives(int ranks) => Gen.Select(
        Gen.Select(Gen.Enum<CollectiveCall.Operation>(), Gen.Int[0, 99], Gen.Int[0, 99], Gen.OneOf(Gen.Int[0, 40], Gen.Int[0, 5000], Gen.Int[60_000, 80_000]), Gen.Bool, CollectiveCall.Of).Array[1, 12],
        Gen.Bool).Sample((calls, overlap) => RunProgram(ranks, calls, overlap), iter: 15, threads: 1);

    protected virtual void RunCase(string name, int ranks) => GroupOfThreads.Run(Backend, ranks, CollectiveCases.All[name]);

    private protected virtual void RunProgram(int ranks, CollectiveCall[] calls, bool overlap) =>
        GroupOfThreads.Run(Backend, ranks, group => CollectiveCases.Run(group, calls, overlap));
}
