namespace FabricSharp.Interop.Mpi;

/// <summary>An MPI function returned an error, or there is no usable MPI library; the message says which and why.</summary>
internal sealed class MpiException(string message) : Exception(message);
