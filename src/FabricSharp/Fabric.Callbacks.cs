using FabricSharp.Callbacks;

namespace FabricSharp;

/// <summary>Callbacks: objects of the user whose methods are called by name.</summary>
public sealed partial class Fabric
{
    /// <summary>
    /// Calls the method <paramref name="hookName"/> of every callback that has one, in the order in which the callbacks were given. Local;
    /// collective where a callback's method is.
    /// </summary>
    /// <remarks>
    /// Fabric itself calls <c>OnAfterSetup</c> with <c>fabric</c> and <c>module</c> (the original) after each model that was set up, and
    /// <c>OnAfterOptimizerStep</c> with <c>strategy</c> and <c>optimizer</c> (the original) after each step.
    /// </remarks>
    /// <param name="hookName">The name of a public method, or of a property or field that holds a delegate, such as <c>"OnTrainBatchEnd"</c>.
    /// Callbacks without it are passed over; a member of that name that cannot be called gives a warning.</param>
    /// <param name="arguments">The arguments by name, as an anonymous object (<c>new { fabric, loss, batchIndex = 3 }</c>) or a dictionary.
    /// A method gets those that it has parameters for (upper and lower case are the same); one with a parameter of type
    /// <c>IReadOnlyDictionary&lt;string, object?&gt;</c> gets all of them there.</param>
    /// <exception cref="ArgumentException">A method has a parameter that was not given and has no default, or one of another type.</exception>
    public void Call(string hookName, object? arguments = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(hookName);
        RequireAlive(nameof(Call));
        CallAll(hookName, arguments);
    }

    /// <summary>Calls one of Fabric's own hooks; without callbacks it costs nothing.</summary>
    private void CallHook(string hookName, Func<object> arguments)
    {
        if (_plan.Callbacks.Count > 0)
            CallAll(hookName, arguments());
    }

    private void CallAll(string hookName, object? arguments)
    {
        var named = HookArguments.From(arguments);
        foreach (var callback in _plan.Callbacks)
            if (!Hook.TryCall(callback, hookName, named) && IsGlobalZero)
                Console.Error.WriteLine($"FabricSharp: Skipping the callback `{callback.GetType().Name}.{hookName}` because it is not callable.");
    }
}
