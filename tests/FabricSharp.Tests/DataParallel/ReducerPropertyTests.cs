using CsCheck;
using FabricSharp.DataParallel;
using FabricSharp.Tests.Collectives;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.DataParallel;

/// <summary>
/// Random models, random use of their parameters by rank and step, random buckets, with and without hooks: after each pass every rank's gradients
/// are those of one process that plays all ranks and averages what they have.
/// </summary>
public class ReducerPropertyTests
{
    private static readonly long[][] Shapes = [[], [0, 3], [1], [7], [3, 5], [2, 3, 4], [64, 31], [130, 130]];

    private static readonly Gen<Plan> Plans =
        from ranks in Gen.Int[2, 3]
        from shapes in Gen.Int[0, Shapes.Length - 1].Array[1, 9]
        from wide in Gen.Bool.Array[shapes.Length]
        from cap in OneOf(1e-6, 1e-4, 0.02, 25)
        from views in Gen.Bool
        from hooks in Gen.Bool
        from mode in OneOf(Mode.Regular, Mode.FindUnused, Mode.FindUnused, Mode.Static, Mode.Hook)
        from seed in Gen.Int
        from steps in Steps(ranks, shapes.Length).Array[1, 4]
        select new Plan(ranks, shapes, wide, cap, views, hooks, mode, seed, steps);

    private enum Mode
    {
        /// <summary>Without the flag: everything is used.</summary>
        Regular,
        FindUnused,

        /// <summary>A static graph: every step is like the first.</summary>
        Static,

        /// <summary>Through a communication hook, with the flag.</summary>
        Hook,
    }

    private enum Zeroing
    {
        SetToNull,
        WriteZeros,
        Accumulate,
    }

    [Fact]
    public void Gradients_OfRandomModelsAndUses_AreThoseOfOneProcess() => Plans.Sample(plan => Check(plan, "shm"), iter: 150, threads: 1);

    /// <summary>As tensors of a device are handled: without an address being read.</summary>
    [Fact]
    public void Gradients_OnTheDevicePath_AreThoseOfOneProcess() => Plans.Sample(plan => Check(plan with { DevicePath = true }, "shm"), iter: 80, threads: 1);

    /// <summary>The same through the nccl back end over a simulated NCCL.</summary>
    [Fact]
    public void Gradients_OverNccl_AreThoseOfOneProcess() => Plans.Sample(plan => Check(plan, "nccl"), iter: 40, threads: 1);

    private static Gen<T> OneOf<T>(params T[] values) => Gen.Int[0, values.Length - 1].Select(i => values[i]);

    private static Gen<Step> Steps(int ranks, int parameters) =>
        from local in Uses(ranks, parameters)
        from synchronised in Uses(ranks, parameters)
        from hasLocal in Gen.Int[0, 2]
        from zeroing in OneOf(Zeroing.SetToNull, Zeroing.SetToNull, Zeroing.WriteZeros, Zeroing.Accumulate)
        select new Step(hasLocal == 0 ? local : null, synchronised, zeroing);

    /// <summary>For each rank the parameters that it uses, in the order of use; possibly none.</summary>
    private static Gen<int[][]> Uses(int ranks, int parameters) =>
        from order in Gen.Shuffle(Enumerable.Range(0, parameters).ToArray()).Array[ranks]
        from count in Gen.Int[0, parameters].Array[ranks]
        select order.Zip(count, (all, used) => all[..used]).ToArray();

    private static void Check(Plan plan, string backend) => GroupOfThreads.Run(backend, plan.Ranks, group =>
    {
        using var scope = NewDisposeScope();
        var model = new Bag(plan);
        using var replica = new Replica<Bag>(model, group, plan.Options());
        var reference = new Reference(plan, model);
        for (var step = 0; step < plan.Steps.Length; step++)
        {
            var uses = plan.UsesOf(step);
            Zero(model, uses.Zeroing);
            reference.Zero(uses.Zeroing);
            if (uses.Local is { } local)
            {
                replica.Reducer.RequiresSynchronization = false;
                Pass(replica, local[group.Rank], step);
                replica.Reducer.RequiresSynchronization = true;
                reference.LocalPass(local, step);
            }

            Pass(replica, uses.Synchronised[group.Rank], step + 100);
            replica.Reducer.BeforeStep();
            reference.SynchronisedPass(uses.Synchronised, step + 100);
            reference.Require(group.Rank, step);
        }

        group.Barrier().Wait();
    });

    private static void Pass(Replica<Bag> replica, int[] used, int step)
    {
        if (used.Length > 0)
            replica.Pass(model => model.Loss(used, replica.Rank, step));
        else
            replica.Reducer.BeforeForward(); // nothing to learn from this batch
    }

    private static void Zero(Bag model, Zeroing zeroing)
    {
        foreach (var parameter in model.All)
            if (zeroing == Zeroing.SetToNull)
                parameter.grad = null;
            else if (zeroing == Zeroing.WriteZeros)
                parameter.grad?.zero_();
    }

    /// <param name="Local">What a pass without synchronisation before uses, by rank; null without one.</param>
    /// <param name="Synchronised">What the synchronised pass uses, by rank.</param>
    /// <param name="Zeroing">What happens to gradients before.</param>
    private sealed record Step(int[][]? Local, int[][] Synchronised, Zeroing Zeroing);

    private sealed record Plan(int Ranks, int[] ShapeIndices, bool[] Wide, double Cap, bool Views, bool Hooks, Mode Mode, int Seed, Step[] Steps)
    {
        public bool DevicePath { get; init; }

        public DDPOptions Options() => new()
        {
            FindUnusedParameters = Mode is Mode.FindUnused or Mode.Hook,
            StaticGraph = Mode == Mode.Static,
            CommunicationHook = Mode == Mode.Hook ? CommunicationHook.AllReduce : null,
            BucketCapMb = Cap,
            GradientAsBucketView = Views,
            UsesGradientHooks = Hooks,
            UsesDevicePath = DevicePath,
        };

        /// <summary>What a step does: where the mode allows less than the generator makes, that.</summary>
        public Step UsesOf(int step) => Mode switch
        {
            Mode.Regular => Steps[step] with { Synchronised = [.. Steps[step].Synchronised.Select(Complete)] },
            Mode.Static => Steps[0] with { Local = null, Zeroing = Steps[step].Zeroing },
            _ => Steps[step],
        };

        private int[] Complete(int[] used) => [.. used, .. Enumerable.Range(0, ShapeIndices.Length).Except(used)];

        public override string ToString() =>
            $"{Ranks} ranks, parameters [{string.Join(", ", ShapeIndices.Zip(Wide, (s, w) => $"({string.Join('x', Shapes[s])}){(w ? " f64" : "")}"))}], cap {Cap}, views {Views}, hooks {Hooks}, {Mode}, seed {Seed}, " +
            string.Join("; ", Enumerable.Range(0, Steps.Length).Select(UsesOf).Select(step => $"{step.Zeroing}, local {Text(step.Local)}, pass {Text(step.Synchronised)}"));

        private static string Text(int[][]? uses) => uses is null ? "none" : string.Join(" | ", uses.Select(used => string.Join(',', used)));
    }

    /// <summary>Parameters of any shape, and a loss that uses those it is told to, in that order.</summary>
    private sealed class Bag : nn.Module
    {
        private readonly ParameterList bag;

        public Bag(Plan plan)
            : base(nameof(Bag))
        {
            var random = new Generator((ulong)(uint)plan.Seed);
            bag = new ParameterList([.. plan.ShapeIndices.Zip(plan.Wide, (shape, wide) =>
                new Parameter(randn(Shapes[shape], ScalarType.Float64, generator: random).to(wide ? ScalarType.Float64 : ScalarType.Float32)))]);
            RegisterComponents();
        }

        public IEnumerable<Parameter> All => bag;

        public Tensor Loss(int[] used, int rank, int step)
        {
            var loss = zeros([], ScalarType.Float64);
            for (var i = 0; i < used.Length; i++)
            {
                var factor = 1 + rank + 10 * step + 0.5 * i;
                loss = loss + (bag[used[i]] * factor).sin().sum().to(ScalarType.Float64) / factor;
            }

            return loss;
        }
    }

    /// <summary>Plays all ranks. Gradients and what of them was not averaged yet, by rank and parameter.</summary>
    private sealed class Reference(Plan plan, Bag model)
    {
        private readonly Parameter[] _parameters = [.. model.All];
        private readonly Tensor?[,] _gradients = new Tensor?[plan.Ranks, plan.ShapeIndices.Length];
        private readonly bool[,] _pending = new bool[plan.Ranks, plan.ShapeIndices.Length];

        public void Zero(Zeroing zeroing)
        {
            for (var rank = 0; rank < plan.Ranks; rank++)
                for (var i = 0; i < _parameters.Length; i++)
                    _gradients[rank, i] = zeroing switch
                    {
                        Zeroing.SetToNull => null,
                        Zeroing.WriteZeros => _gradients[rank, i]?.mul(0),
                        _ => _gradients[rank, i],
                    };
        }

        public void LocalPass(int[][] uses, int step)
        {
            for (var rank = 0; rank < plan.Ranks; rank++)
                Accumulate(rank, uses[rank], step);
        }

        public void SynchronisedPass(int[][] uses, int step)
        {
            LocalPass(uses, step);
            for (var i = 0; i < _parameters.Length; i++)
            {
                if (!Enumerable.Range(0, plan.Ranks).Any(rank => _pending[rank, i]))
                    continue;
                var average = Enumerable.Range(0, plan.Ranks).Select(rank => (_gradients[rank, i] ?? zeros_like(_parameters[i])) / plan.Ranks).Aggregate((x, y) => x + y);
                for (var rank = 0; rank < plan.Ranks; rank++)
                    (_gradients[rank, i], _pending[rank, i]) = (average.detach(), false);
            }
        }

        public void Require(int rank, int step)
        {
            for (var i = 0; i < _parameters.Length; i++)
            {
                var (expected, found) = (_gradients[rank, i], _parameters[i].grad);
                Assert.True((expected is null) == (found is null), $"step {step}, parameter {i} on rank {rank}: gradient {(found is null ? "missing" : "too many")}.");
                if (expected is not null && !expected.allclose(found!, 1e-5, 1e-6))
                    Assert.Fail($"step {step}, parameter {i} on rank {rank}: {(expected - found!).abs().max().to(ScalarType.Float64).item<double>()} apart.");
            }
        }

        private void Accumulate(int rank, int[] used, int step)
        {
            if (used.Length == 0)
                return;
            var gradients = autograd.grad([model.Loss(used, rank, step)], [.. used.Select(i => (Tensor)_parameters[i])]);
            foreach (var (gradient, i) in gradients.Zip(used))
            {
                _gradients[rank, i] = _gradients[rank, i] is { } sum ? sum + gradient : gradient;
                _pending[rank, i] = true;
            }
        }
    }
}
