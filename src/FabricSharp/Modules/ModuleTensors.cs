using System.Reflection;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace FabricSharp.Modules;

/// <summary>All tensors of a module. TorchSharp's <c>named_buffers()</c> leaves non-persistent buffers out; these do not.</summary>
internal static class ModuleTensors
{
    private static readonly FieldInfo BuffersField =
        typeof(nn.Module).GetField("_internal_buffers", BindingFlags.Instance | BindingFlags.NonPublic)
        ?? throw new MissingFieldException("TorchSharp's Module has no field _internal_buffers: this version of TorchSharp is not supported.");

    /// <summary>Every buffer with its full dotted name, once.</summary>
    public static IReadOnlyList<(string Name, Tensor Buffer)> Buffers(nn.Module module)
    {
        var seen = new HashSet<IntPtr>();
        var all = new List<(string, Tensor)>();
        foreach (var (prefix, owner) in module.named_modules().Prepend(("", module)))
            foreach (var (name, buffer) in Own(owner))
                if (buffer is not null && !buffer.IsInvalid && seen.Add(buffer.Handle))
                    all.Add((prefix.Length == 0 ? name : $"{prefix}.{name}", buffer));
        return all;
    }

    private static IEnumerable<(string Name, Tensor? Buffer)> Own(nn.Module module)
    {
        var buffers = (OrderedDict<string, (Tensor, bool)>)BuffersField.GetValue(module)!;
        foreach (var (name, (buffer, _)) in buffers)
            yield return (name, buffer);
    }
}
