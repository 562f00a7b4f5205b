using System.Reflection;
using System.Text.Json;
using static TorchSharp.torch.optim.lr_scheduler;

namespace FabricSharp.Checkpointing;

/// <summary>How far a learning-rate scheduler has come, as JSON. The rates themselves are the optimizer's.</summary>
/// <param name="Type">The scheduler's class, without its namespace.</param>
/// <param name="Fields">Name of a field → number, or one number for each parameter group.</param>
/// <param name="Parts">The schedulers that it is made of.</param>
internal sealed record SchedulerState(string Type, IReadOnlyDictionary<string, JsonElement> Fields, IReadOnlyList<SchedulerState> Parts)
{
    private static readonly JsonSerializerOptions Json = new(OptimizerDescription.Json);

    public static JsonElement Save(LRScheduler scheduler) => JsonSerializer.SerializeToElement(Of(scheduler), Json);

    /// <summary>Checks that <paramref name="stored"/> fits.</summary>
    /// <returns>Brings it into the scheduler.</returns>
    /// <exception cref="CheckpointException">It is of another scheduler, or corrupt.</exception>
    public static Action PlanLoad(LRScheduler scheduler, JsonElement stored, string what)
    {
        try
        {
            var actions = new List<Action>();
            Plan(scheduler, stored.Deserialize<SchedulerState>(Json) ?? throw new JsonException("it is null"), actions);
            return () => actions.ForEach(action => action());
        }
        catch (JsonException e)
        {
            throw new CheckpointException($"{what} does not fit this {scheduler.GetType().Name}: {e.Message}. Nothing was changed. Make the scheduler as it was made for the run that saved.", e);
        }
    }

    private static SchedulerState Of(LRScheduler scheduler) => new(
        scheduler.GetType().Name,
        SchedulerFields.Of(scheduler).ToDictionary(field => field.Name, field => JsonSerializer.SerializeToElement(field.GetValue(scheduler), field.FieldType, PlainValue.Json)),
        [.. SchedulerFields.PartsOf(scheduler).Select(Of)]);

    private static void Plan(LRScheduler scheduler, SchedulerState stored, List<Action> actions)
    {
        if (stored.Type != scheduler.GetType().Name)
            throw new JsonException($"it is the state of a {stored.Type}, this is a {scheduler.GetType().Name}");
        foreach (var field in SchedulerFields.Of(scheduler))
            if (!stored.Fields.TryGetValue(field.Name, out var element))
                throw new JsonException($"'{field.Name}' is missing");
            else
                actions.Add(field.FieldType == typeof(IList<double>) ? PlanList(field, scheduler, element) : PlanNumber(field, scheduler, element));
        var parts = SchedulerFields.PartsOf(scheduler);
        if (parts.Count != stored.Parts.Count)
            throw new JsonException($"it is made of {stored.Parts.Count} schedulers, this {scheduler.GetType().Name} of {parts.Count}");
        foreach (var (part, state) in parts.Zip(stored.Parts))
            Plan(part, state ?? throw new JsonException("a part is null"), actions);
    }

    private static Action PlanNumber(FieldInfo field, LRScheduler scheduler, JsonElement element)
    {
        var value = element.Deserialize(field.FieldType, PlainValue.Json);
        return () => field.SetValue(scheduler, value);
    }

    /// <summary>In place: a sequence and its parts share a list.</summary>
    private static Action PlanList(FieldInfo field, LRScheduler scheduler, JsonElement element)
    {
        var (values, current) = (element.Deserialize<double[]>(PlainValue.Json), (IList<double>?)field.GetValue(scheduler));
        if (values?.Length != current?.Count)
            throw new JsonException($"'{field.Name}' is of {values?.Length ?? 0} parameter groups, the optimizer has {current?.Count ?? 0}");
        return () =>
        {
            for (var i = 0; i < (values?.Length ?? 0); i++)
                current![i] = values![i];
        };
    }
}
