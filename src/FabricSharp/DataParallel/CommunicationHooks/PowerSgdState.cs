using TorchSharp;
using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>What PowerSGD keeps of one parameter from pass to pass, and its matrices within a pass.</summary>
internal sealed class PowerSgdState
{
    private readonly int _rank;
    private readonly bool _warmStart;
    private readonly Generator _random;
    private readonly long _rows;
    private readonly long _columns;

    /// <summary>What compression has lost so far; null without error feedback.</summary>
    private readonly Tensor? _error;

    /// <summary>Q of the last pass; null before the first, or when each pass starts anew.</summary>
    private Tensor? _q;
    private long _passes;

    private Tensor _matrix = null!;
    private Tensor _input = null!;
    private Tensor _p = null!;
    private Tensor _newQ = null!;

    public PowerSgdState(Tensor gradient, int rank, bool useErrorFeedback, bool warmStart, long seed)
    {
        _rows = gradient.shape[0];
        _columns = gradient.numel() / _rows;
        _rank = (int)Math.Min(rank, Math.Min(_rows, _columns));
        _warmStart = warmStart;
        _random = new Generator((ulong)seed);
        _error = useErrorFeedback ? zeros([_rows, _columns], gradient.dtype, gradient.device).DetachFromDisposeScope() : null;
    }

    /// <summary>Counts the pass; false while gradients are not compressed yet.</summary>
    public bool Begin(Tensor gradient, long startIteration)
    {
        if (_passes++ < startIteration)
            return false;
        _matrix = gradient;
        _input = gradient.reshape(_rows, _columns);
        if (_error is not null)
            _input = _input + _error;
        return true;
    }

    /// <summary>P = M·Q of this rank, to be summed over the ranks in place.</summary>
    public Tensor MultiplyByQ()
    {
        var q = _q ?? Orthonormal(randn([_columns, _rank], ScalarType.Float32, generator: _random).to(_input.dtype).to(_input.device), 0);
        return _p = _input.matmul(_warmStart && _q is not null ? Orthonormal(q.clone(), 0) : q);
    }

    /// <summary>Q = Mᵀ·P of this rank, to be averaged over the ranks in place.</summary>
    public Tensor MultiplyByP(double epsilon)
    {
        Orthonormal(_p, epsilon);
        return _newQ = _input.t().matmul(_p);
    }

    /// <summary>Puts P·Qᵀ where the gradient was, and keeps what is for the next pass.</summary>
    public void Finish()
    {
        var result = _p.matmul(_newQ.t());
        _error?.copy_(_input - result);
        _matrix.copy_(result.reshape(_matrix.shape));
        if (!_warmStart)
            return;
        _q?.Dispose();
        _q = _newQ.DetachFromDisposeScope();
    }

    /// <summary>Makes the columns orthonormal, one after the other, in place. A column without length stays zero.</summary>
    private static Tensor Orthonormal(Tensor matrix, double epsilon)
    {
        for (var column = 0; column < matrix.shape[1]; column++)
        {
            var current = matrix.narrow(1, column, 1);
            var norm = current.to(ScalarType.Float64).norm().item<double>() + epsilon;
            using Scalar scale = norm > 0 ? 1 / norm : 0;
            current.mul_(scale);
            if (column + 1 == matrix.shape[1])
                break;
            var rest = matrix.narrow(1, column + 1, matrix.shape[1] - column - 1);
            rest.sub_(current.matmul(current.t().matmul(rest)));
        }

        return matrix;
    }
}
