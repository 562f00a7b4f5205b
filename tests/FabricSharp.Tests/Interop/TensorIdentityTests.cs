using FabricSharp.Interop.LibTorch;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Interop;

public class TensorIdentityTests
{
    [Fact]
    public void Of_SameTensorInTwoObjects_IsTheSame()
    {
        using var scope = NewDisposeScope();
        var embedding = nn.Embedding(5, 3);
        var linear = nn.Linear(3, 5, hasBias: false);
        linear.weight = embedding.weight!;
        Assert.Equal(TensorIdentity.Of(embedding.weight!), TensorIdentity.Of(linear.weight!));
        Assert.Equal(TensorIdentity.Of(embedding.weight!), TensorIdentity.Of(embedding.weight!.alias()));
        Assert.NotEqual(TensorIdentity.Of(embedding.weight!), TensorIdentity.Of(embedding.weight!.detach()));
    }
}
