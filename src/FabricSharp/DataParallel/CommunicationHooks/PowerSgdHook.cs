using FabricSharp.Collectives;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>
/// PowerSGD (Vogels, Karimireddy and Jaggi, 2019): a gradient matrix M (n × m) is sent as two thin ones, P (n × r) and Q (m × r).
/// <para>
/// For each matrix: M := gradient + error of the last step; P := M·Q, summed over the ranks, its columns made orthonormal; Q := Mᵀ·P, averaged over the
/// ranks; result := P·Qᵀ; error := M − result. A tensor of n×… dimensions counts as a matrix of n rows. Vectors, and matrices
/// that would not shrink enough, are averaged as they are. The first <see cref="StartIteration"/> passes are plain all-reduces, for early gradients
/// do not compress well. Options are PyTorch's.
/// </para>
/// The state (errors and Qs) is as large as the compressed gradients; it is not part of checkpoints.
/// </summary>
public sealed class PowerSgdHook : CommunicationHook
{
    private readonly Dictionary<Parameter, PowerSgdState> _states = new(ReferenceEqualityComparer.Instance);

    /// <summary>Makes the hook; each argument is also a property. The same values on every rank.</summary>
    /// <param name="rank">See <see cref="Rank"/>.</param>
    /// <param name="startIteration">See <see cref="StartIteration"/>.</param>
    /// <param name="minCompressionRate">See <see cref="MinCompressionRate"/>.</param>
    /// <param name="useErrorFeedback">See <see cref="UseErrorFeedback"/>.</param>
    /// <param name="warmStart">See <see cref="WarmStart"/>.</param>
    /// <param name="orthogonalizationEpsilon">See <see cref="OrthogonalizationEpsilon"/>.</param>
    /// <param name="randomSeed">See <see cref="RandomSeed"/>.</param>
    /// <exception cref="ArgumentException">A value is out of range: all problems at once.</exception>
    public PowerSgdHook(
        int rank = 1,
        long startIteration = 1000,
        double minCompressionRate = 2,
        bool useErrorFeedback = true,
        bool warmStart = true,
        double orthogonalizationEpsilon = 0,
        int randomSeed = 0)
    {
        Rank = rank;
        StartIteration = startIteration;
        MinCompressionRate = minCompressionRate;
        UseErrorFeedback = useErrorFeedback;
        WarmStart = warmStart;
        OrthogonalizationEpsilon = orthogonalizationEpsilon;
        RandomSeed = randomSeed;
        Validate();
    }

    /// <summary>r, the number of columns of P and Q: the higher, the closer to the gradient and the more bytes.</summary>
    /// <value>Default 1.</value>
    public int Rank { get; }

    /// <summary>Backward passes with a plain all-reduce, before compression starts; at least 2 with error feedback or warm start.</summary>
    /// <value>Default 1000.</value>
    public long StartIteration { get; }

    /// <summary>A matrix is compressed when (n + m) · r · this is less than n · m.</summary>
    /// <value>Default 2.</value>
    public double MinCompressionRate { get; }

    /// <summary>Whether what compression lost is added to the next gradient.</summary>
    /// <value>Default true.</value>
    public bool UseErrorFeedback { get; }

    /// <summary>Whether Q starts from the last pass's instead of random numbers.</summary>
    /// <value>Default true.</value>
    public bool WarmStart { get; }

    /// <summary>Added to norms when columns are made orthonormal.</summary>
    /// <value>Default 0.</value>
    public double OrthogonalizationEpsilon { get; }

    /// <summary>Seed of the random Qs, which must be the same on every rank.</summary>
    /// <value>Default 0.</value>
    public int RandomSeed { get; }

    /// <inheritdoc/>
    public override string Name => $"powerSGD(rank {Rank}, start {StartIteration}, rate {MinCompressionRate}, {(UseErrorFeedback ? "" : "no ")}error feedback, {(WarmStart ? "warm" : "cold")} start, seed {RandomSeed})";

    /// <inheritdoc/>
    public override Tensor Reduce(in CommunicationBucket bucket)
    {
        var plain = new List<Tensor>();
        var compressed = new List<PowerSgdState>();
        for (var i = 0; i < bucket.Parameters.Count; i++)
        {
            var gradient = bucket.Gradients[i];
            if (Compresses(gradient.shape) && StateOf(bucket.Parameters[i], gradient) is var state && state.Begin(gradient, StartIteration))
                compressed.Add(state);
            else
                plain.Add(gradient);
        }

        var average = ReduceOp.PreMulSum(1.0 / bucket.Group.Size);
        AllReduceTogether(plain, bucket.Group, average);
        AllReduceTogether(compressed.ConvertAll(state => state.MultiplyByQ()), bucket.Group, ReduceOp.Sum);
        AllReduceTogether(compressed.ConvertAll(state => state.MultiplyByP(OrthogonalizationEpsilon)), bucket.Group, average);
        compressed.ForEach(state => state.Finish());
        return bucket.Buffer;
    }

    /// <inheritdoc/>
    public override CommunicationHook ForModel() =>
        new PowerSgdHook(Rank, StartIteration, MinCompressionRate, UseErrorFeedback, WarmStart, OrthogonalizationEpsilon, RandomSeed);

    private bool Compresses(long[] shape)
    {
        if (shape.Length <= 1)
            return false;
        var n = shape[0];
        var m = shape.Skip(1).Aggregate(1L, (product, size) => product * size);
        return (n + m) * Rank * MinCompressionRate < n * m;
    }

    private PowerSgdState StateOf(Parameter parameter, Tensor gradient)
    {
        if (!_states.TryGetValue(parameter, out var state))
            _states[parameter] = state = new PowerSgdState(gradient, Rank, UseErrorFeedback, WarmStart, seed: RandomSeed + 1_000_003L * _states.Count);
        return state;
    }

    /// <summary>All tensors in one all-reduce; each gets its part back in place.</summary>
    private static void AllReduceTogether(List<Tensor> tensors, ProcessGroup group, ReduceOp op)
    {
        if (tensors.Count == 0)
            return;
        var flat = cat([.. tensors.Select(tensor => tensor.flatten())]);
        group.AllReduce(flat, op).Wait();
        var offset = 0L;
        foreach (var tensor in tensors)
        {
            tensor.copy_(flat.narrow(0, offset, tensor.numel()).view(tensor.shape));
            offset += tensor.numel();
        }
    }

    private void Validate()
    {
        var problems = new List<string>();
        if (Rank < 1)
            problems.Add($"rank: {Rank} must be at least 1.");
        if (StartIteration < 0)
            problems.Add($"startIteration: {StartIteration} must not be negative.");
        if (StartIteration <= 1 && (UseErrorFeedback || WarmStart))
            problems.Add($"startIteration: {StartIteration} must be greater than 1 with error feedback or warm start, which need gradients of an unchanging layout.");
        if (!(MinCompressionRate > 0))
            problems.Add($"minCompressionRate: {MinCompressionRate} must be positive.");
        if (!(OrthogonalizationEpsilon >= 0))
            problems.Add($"orthogonalizationEpsilon: {OrthogonalizationEpsilon} must not be negative.");
        if (problems.Count > 0)
            throw new ArgumentException("PowerSgdHook: " + string.Join(" ", problems));
    }
}
