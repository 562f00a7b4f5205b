namespace FabricSharp.Checkpointing;

/// <summary>The names that only one side had when a module was loaded with <c>strict: false</c>, as PyTorch's <c>load_state_dict</c> returns them.</summary>
/// <param name="MissingKeys">Of the module, but not in the file: these tensors stayed as they were. Tied tensors by their first name.</param>
/// <param name="UnexpectedKeys">In the file, but not of the module: nothing was loaded from these.</param>
public sealed record IncompatibleKeys(IReadOnlyList<string> MissingKeys, IReadOnlyList<string> UnexpectedKeys);
