namespace FabricSharp.Interop.Cuda;

/// <summary>A call into the CUDA runtime failed.</summary>
internal sealed class CudaException(string function, int code, string text) : Exception($"{function} failed: {text} (CUDA error {code}).");
