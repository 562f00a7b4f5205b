using System.Reflection;
using static TorchSharp.torch.optim.lr_scheduler;

namespace FabricSharp.Checkpointing;

/// <summary>
/// The fields in which TorchSharp's learning-rate schedulers keep how far they have come. TorchSharp has no state dictionary for them, and its
/// fields are not public. What a scheduler was made with (gamma, milestones, functions) is the program's and is not among them.
/// </summary>
internal static class SchedulerFields
{
    private static readonly FieldInfo[] Common =
    [
        Field(typeof(LRScheduler), "_last_epoch", typeof(int)), Field(typeof(LRScheduler), "_step_count", typeof(int)),
        Field(typeof(LRScheduler), "_last_lrs", typeof(IList<double>)), Field(typeof(LRScheduler), "_base_lrs", typeof(IList<double>)),
    ];

    private static readonly FieldInfo[] Plateau =
    [
        Field(typeof(impl.ReduceLROnPlateau), "best", typeof(double)), Field(typeof(impl.ReduceLROnPlateau), "num_bad_epochs", typeof(int)),
        Field(typeof(impl.ReduceLROnPlateau), "cooldown_counter", typeof(int)),
    ];

    private static readonly FieldInfo SequentialParts = Field(typeof(impl.SequentialLR), "_schedulers", typeof(LRScheduler[]));
    private static readonly FieldInfo ChainedParts = Field(typeof(impl.ChainedLR), "_schedulers", typeof(IEnumerable<LRScheduler>));

    private static readonly Type[] Plain =
    [
        typeof(impl.LambdaLR), typeof(impl.MultiplicativeLR), typeof(impl.StepLR), typeof(impl.MultiStepLR), typeof(impl.PolynomialLR), typeof(impl.ExponentialLR),
        typeof(impl.ConstantLR), typeof(impl.LinearLR), typeof(impl.CosineAnnealingLR), typeof(impl.CyclicLR), typeof(impl.OneCycleLR), typeof(impl.SequentialLR),
    ];

    /// <exception cref="ArgumentException">The scheduler is none of TorchSharp's.</exception>
    public static IReadOnlyList<FieldInfo> Of(LRScheduler scheduler) => scheduler switch
    {
        impl.ChainedLR => [], // it has no state but its parts'
        impl.ReduceLROnPlateau => [.. Common, .. Plateau],
        _ when Plain.Contains(scheduler.GetType()) => Common,
        _ => throw new ArgumentException($"A checkpoint cannot hold a learning-rate scheduler {scheduler.GetType()}: only of TorchSharp's own is it known what changes in them. Save the numbers that yours is made from.", "state"),
    };

    /// <summary>The schedulers that a scheduler is made of.</summary>
    public static IReadOnlyList<LRScheduler> PartsOf(LRScheduler scheduler) => scheduler switch
    {
        impl.SequentialLR => (LRScheduler[])SequentialParts.GetValue(scheduler)!,
        impl.ChainedLR => [.. (IEnumerable<LRScheduler>)ChainedParts.GetValue(scheduler)!],
        _ => [],
    };

    private static FieldInfo Field(Type owner, string name, Type type) =>
        owner.GetField(name, BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly) is { } field && field.FieldType == type
            ? field
            : throw new MissingFieldException($"TorchSharp {owner.Assembly.GetName().Version}: {owner.Name} has no field '{name}' of {type}. This version of TorchSharp is not supported; use 0.107.");
}
