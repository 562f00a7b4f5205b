using System.Text.Json;
using System.Text.Json.Serialization;
using FabricSharp.Collectives;
using static TorchSharp.torch;

namespace FabricSharp.Exchange;

/// <summary>
/// Gives one rank's value to all, whatever it is: as JSON, in which a tensor is a reference (see <see cref="TensorReference"/>), followed by the tensors.
/// Every method is collective.
/// </summary>
/// <param name="group">The ranks.</param>
/// <param name="source">The rank that gives the value.</param>
/// <param name="device">Where the other ranks make tensors.</param>
internal sealed class ValueBroadcast(ProcessGroup group, int source, Device device)
{
    private bool IsSource => group.Rank == source;

    /// <returns>On the source the value itself; elsewhere a new one.</returns>
    /// <exception cref="ArgumentException">The value cannot be written as JSON; on every rank.</exception>
    public T Send<T>(T value)
    {
        var tensors = new List<Tensor>();
        var options = Options(tensors);
        var json = SendText(IsSource ? () => JsonSerializer.Serialize(value, options) : null);
        var result = IsSource ? value : JsonSerializer.Deserialize<T>(json, options)!;
        foreach (var tensor in tensors)
            SendInPlace(tensor);
        return result;
    }

    /// <summary>Overwrites a tensor of the source's type and shape; elsewhere than on the source, another one or none is answered with a new tensor.</summary>
    public Tensor Send(Tensor? tensor)
    {
        var json = SendText(IsSource ? () => JsonSerializer.Serialize(TensorReference.To(0, tensor ?? throw new ArgumentNullException(nameof(tensor)))) : null);
        var reference = JsonSerializer.Deserialize<TensorReference>(json)!;
        return SendInPlace(tensor is not null && reference.Fits(tensor) ? tensor : reference.MakeTensor(device));
    }

    private Tensor SendInPlace(Tensor tensor)
    {
        using var gradientsOff = no_grad();
        group.Broadcast(tensor, source).Wait();
        return tensor;
    }

    /// <summary>A source that cannot write its value says so, for the others wait for it.</summary>
    private string SendText(Func<string>? write)
    {
        var (text, failure) = (default(string), default(Exception));
        try
        {
            text = write?.Invoke();
        }
        catch (Exception e)
        {
            failure = e;
        }

        var sent = group.BroadcastObject(new Sent(text, failure?.Message), source);
        if (sent.Failure is not null)
            throw new ArgumentException(
                $"Rank {group.Rank}: Broadcast(src: {source}): rank {source} cannot write its value as JSON: {sent.Failure} " +
                "Give a value that System.Text.Json can write and read, or tensors in lists, arrays, dictionaries, tuples or records.", "value", failure);
        return sent.Json!;
    }

    /// <summary>Tuples have fields, and losses may be infinite.</summary>
    private JsonSerializerOptions Options(List<Tensor> tensors) => new()
    {
        IncludeFields = true,
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
        Converters = { new TensorReferenceConverter(tensors, device), new PlainObjectConverter() },
    };

    /// <param name="Json">The value; null where it could not be written.</param>
    /// <param name="Failure">Why it could not.</param>
    private sealed record Sent(string? Json, string? Failure);
}
