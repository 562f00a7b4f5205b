using FabricSharp.Data;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Data;

public sealed class TensorTreeTests : IDisposable
{
    private readonly Tensor _old = zeros(1);
    private readonly Tensor _new = ones(1);

    public void Dispose()
    {
        _old.Dispose();
        _new.Dispose();
    }

    [Fact]
    public void Map_Tensor_IsReplaced() => Assert.Same(_new, Map(_old));

    [Fact]
    public void Map_Array_IsCopied()
    {
        Tensor[] tree = [_old, _old];

        Assert.Equal([_new, _new], Map(tree));
        Assert.Same(_old, tree[0]);
    }

    [Fact]
    public void Map_ListBehindAnInterface_KeepsItsType()
    {
        IList<Tensor> tree = new List<Tensor> { _old };

        Assert.Same(_new, Assert.Single(Assert.IsType<List<Tensor>>(Map(tree))));
        Assert.Same(_old, tree[0]);
    }

    [Fact]
    public void Map_Dictionary_KeepsKeysAndComparer()
    {
        var tree = new Dictionary<string, Tensor>(StringComparer.OrdinalIgnoreCase) { ["Data"] = _old };

        Assert.Same(_new, Map(tree)["dATA"]);
        Assert.Same(_old, tree["data"]);
    }

    [Fact]
    public void Map_NestedCollections_AreMappedThroughout()
    {
        var tree = new Dictionary<string, List<(Tensor, int[])>> { ["a"] = [(_old, [1])] };

        Assert.Same(_new, Map(tree)["a"][0].Item1);
    }

    [Fact]
    public void Map_TupleOfNine_ReachesTheLastItem()
    {
        var tree = (1, 2, 3, 4, 5, 6, 7, "eight", _old);

        Assert.Equal((1, 2, 3, 4, 5, 6, 7, "eight", _new), Map(tree));
    }

    [Fact]
    public void Map_ClassTuple_IsMapped() => Assert.Same(_new, Map(Tuple.Create(1, _old)).Item2);

    [Fact]
    public void Map_Record_IsCopied()
    {
        var tree = new Batch("name", _old);

        var mapped = Map(tree);

        Assert.Same(_new, mapped.Data);
        Assert.Equal("name", mapped.Name);
        Assert.Same(_old, tree.Data);
    }

    [Fact]
    public void Map_NothingReplaced_GivesTheSameObject()
    {
        object[] trees = [new List<Tensor> { _new }, new Dictionary<int, Tensor> { [1] = _new }, new[] { _new }, Tuple.Create(_new), new Batch("", _new)];

        Assert.All(trees, tree => Assert.Same(tree, Map(tree)));
    }

    [Fact]
    public void Map_UnknownOrReadOnlyTypes_AreLeftAlone()
    {
        object[] trees = [new Opaque { Data = _old }, Array.AsReadOnly([_old]), new Tensor[1, 1], "text", 7, DayOfWeek.Friday, new byte[3]];

        Assert.All(trees, tree => Assert.Same(tree, Map(tree)));
    }

    [Fact]
    public void Map_NullsInside_Stay() => Assert.Equal([null, _new], Map(new Tensor?[] { null, _old }));

    private S Map<S>(S tree) => TensorTree.Map(tree, tensor => ReferenceEquals(tensor, _old) ? _new : tensor);

    private sealed record Batch(string Name, Tensor Data);

    private sealed class Opaque
    {
        public Tensor? Data { get; set; }
    }
}
