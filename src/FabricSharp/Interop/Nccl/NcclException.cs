namespace FabricSharp.Interop.Nccl;

/// <summary>A call into NCCL failed.</summary>
internal sealed class NcclException(string function, NcclResult result, string text) : Exception($"{function} failed: {text} (NCCL result {(int)result}).")
{
    public NcclResult Result => result;
}
