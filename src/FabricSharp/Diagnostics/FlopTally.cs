using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Diagnostics;

/// <summary>Adds up the operations of modules as they are called.</summary>
internal sealed class FlopTally
{
    private readonly List<Action> _removers = [];

    public double Forward { get; private set; }

    public double Backward { get; private set; }

    public List<string> Uncounted { get; } = [];

    public void Add(double forward, double backward)
    {
        Forward += forward;
        Backward += backward;
    }

    /// <summary>Has the module's calls counted; false when there is no rule for it.</summary>
    public bool Watch(nn.Module module)
    {
        Action? remover = module switch
        {
            Linear linear => linear.register_forward_hook((_, input, output) => After(output, () => Count(linear.weight, input, Rows(input, linear.in_features)))).remove,
            ConvolutionTranspose conv => conv.register_forward_hook((_, input, output) => After(output, () => Count(conv.weight, input, Rows(input, conv.in_channels)))).remove,
            Convolution conv => conv.register_forward_hook((_, input, output) => After(output, () => Count(conv.weight, input, Rows(output, conv.out_channels)))).remove,
            LSTM lstm => lstm.register_forward_hook((_, input, _, output) => After(output, () => CountRecurrent(lstm, input))).remove,
            GRU gru => gru.register_forward_hook((_, input, _, output) => After(output, () => CountRecurrent(gru, input))).remove,
            RNN rnn => rnn.register_forward_hook((_, input, _, output) => After(output, () => CountRecurrent(rnn, input))).remove,
            MultiheadAttention attention => attention.register_forward_hook(
                (_, query, key, value, _, _, _, output) => After(output, () => CountAttention(query, key, value))).remove,
            _ => null,
        };
        if (remover is not null)
            _removers.Add(remover);
        return remover is not null;
    }

    public void StopWatching() => _removers.ForEach(remove => remove());

    private static T After<T>(T output, Action count)
    {
        count();
        return output;
    }

    private static double Rows(Tensor tensor, long columns) => (double)tensor.NumberOfElements / columns;

    /// <summary>Every element of the weight is used once for each of <paramref name="positions"/>.</summary>
    private void Count(Tensor weight, Tensor input, double positions) =>
        AddProduct(2 * positions * weight.NumberOfElements, weight.requires_grad, input.requires_grad);

    /// <summary>Every matrix is applied at every time step of every sequence; the gradient of what stands in front of the first layer is counted too.</summary>
    private void CountRecurrent(nn.Module module, Tensor input)
    {
        var steps = Rows(input, input.shape[^1]);
        var matrices = module.parameters().Where(parameter => parameter.dim() == 2).ToList();
        AddProduct(2 * steps * matrices.Sum(matrix => (double)matrix.NumberOfElements), matrices.Any(matrix => matrix.requires_grad), inputGradient: true);
    }

    /// <summary>Shapes are (length, batch, features).</summary>
    private void CountAttention(Tensor query, Tensor key, Tensor value)
    {
        var width = query.shape[^1];
        foreach (var input in new[] { query, key, value })
            AddProduct(2.0 * input.NumberOfElements * width, weightGradient: true, input.requires_grad);
        AddProduct(2.0 * query.NumberOfElements * width, weightGradient: true, inputGradient: true); // the output projection
        AddProduct(4.0 * query.NumberOfElements * key.shape[0], weightGradient: true, inputGradient: true); // scores, then the weighted sum
    }

    private void AddProduct(double forward, bool weightGradient, bool inputGradient) =>
        Add(forward, forward * ((weightGradient ? 1 : 0) + (inputGradient ? 1 : 0)));
}
