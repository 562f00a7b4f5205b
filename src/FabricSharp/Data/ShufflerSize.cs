using System.Reflection;
using TorchSharp.Utils;

namespace FabricSharp.Data;

/// <summary>
/// How many items TorchSharp's shuffler shuffles. It need not be the data set's count (a shuffler over the first hundred items is a way to
/// train on a part), and the shuffler keeps it in a private field.
/// </summary>
internal static class ShufflerSize
{
    private static readonly FieldInfo SizeField =
        typeof(FisherYatesShuffler).GetField("size", BindingFlags.Instance | BindingFlags.NonPublic)
        ?? throw new MissingFieldException(
            $"TorchSharp {typeof(FisherYatesShuffler).Assembly.GetName().Version}: FisherYatesShuffler has no field 'size'. This version of TorchSharp is not supported; use 0.107.");

    public static long Of(FisherYatesShuffler shuffler) => (long)SizeField.GetValue(shuffler)!;
}
