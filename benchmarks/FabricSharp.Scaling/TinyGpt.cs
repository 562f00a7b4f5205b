using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace FabricSharp.Scaling;

/// <summary>Six transformer blocks, width 256, 4 heads, 64 positions, 1000 tokens: 77 parameters, 21 MB.</summary>
internal sealed class TinyGpt : Module<Tensor, Tensor>
{
    private readonly Embedding _tokens = Embedding(1000, 256);
    private readonly Embedding _positions = Embedding(64, 256);
    private readonly ModuleList<Block> _blocks = ModuleList(Enumerable.Range(0, 6).Select(_ => new Block()).ToArray());
    private readonly LayerNorm _norm = LayerNorm(256);
    private readonly Linear _head = Linear(256, 1000, hasBias: false);

    public TinyGpt()
        : base("TinyGpt") => RegisterComponents();

    public override Tensor forward(Tensor input)
    {
        var x = _tokens.call(input) + _positions.call(arange(input.shape[1]));
        foreach (var block in _blocks)
            x = block.call(x);
        return _head.call(_norm.call(x));
    }

    private sealed class Block : Module<Tensor, Tensor>
    {
        private readonly LayerNorm _norm1 = LayerNorm(256), _norm2 = LayerNorm(256);
        private readonly Linear _qkv = Linear(256, 768), _out = Linear(256, 256), _up = Linear(256, 1024), _down = Linear(1024, 256);

        public Block()
            : base("Block") => RegisterComponents();

        public override Tensor forward(Tensor x)
        {
            x = x + Attend(_norm1.call(x));
            return x + _down.call(functional.gelu(_up.call(_norm2.call(x))));
        }

        private Tensor Attend(Tensor x)
        {
            var (batch, length) = (x.shape[0], x.shape[1]);
            var parts = _qkv.call(x).view(batch, length, 3, 4, 64).permute(2, 0, 3, 1, 4).unbind(0);
            var y = functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], is_casual: true);
            return _out.call(y.transpose(1, 2).contiguous().view(batch, length, 256));
        }
    }
}
