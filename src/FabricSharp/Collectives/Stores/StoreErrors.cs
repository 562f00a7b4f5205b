using System.Globalization;

namespace FabricSharp.Collectives.Stores;

/// <summary>The texts of failures. Each begins as PyTorch's does, so that people find what is known about it.</summary>
internal static class StoreErrors
{
    private const int KeysShown = 32;

    public static string List(IReadOnlyList<string> keys)
    {
        var shown = string.Join(", ", keys.Take(KeysShown));
        return keys.Count <= KeysShown ? shown : $"{shown} and {keys.Count - KeysShown} more";
    }

    public static string Milliseconds(TimeSpan time) => ((long)time.TotalMilliseconds).ToString(CultureInfo.InvariantCulture) + "ms";

    public static DistributedTimeoutException WaitTimedOut(
        TimeSpan timeout, IReadOnlyList<string> keys, IReadOnlyList<string> missing, string store, Exception? cause = null) =>
        new(
            $"wait timeout after {Milliseconds(timeout)}, keys: {List(keys)}. Store: {store}. Missing: {List(missing)}. "
            + "Likely a rank that sets a missing key has failed, is still on its way, or runs with another world size or key prefix. "
            + "Next: look at the output of the other ranks; if they are only slow, give the store a longer time-out.",
            cause);

    public static DistributedTimeoutException ConnectTimedOut(string host, int port, TimeSpan timeout, int attempts, Exception? last) =>
        new(
            $"The client socket has timed out after {Milliseconds(timeout)} while trying to connect to ({host}, {port}). "
            + $"Attempts: {attempts}; the last one: {last?.Message ?? "no answer"} "
            + "Likely the rank that hosts the store has not started or has failed, or a firewall is between. "
            + "Next: check that MASTER_ADDR and MASTER_PORT are the same on all ranks and that rank 0 runs; "
            + "if it only starts late, give a longer time-out.",
            last);

    public static DistributedException ConnectFailed(string host, int port, Exception cause) =>
        new(
            $"The store server at {host}:{port} took no further connection: {cause.Message} "
            + "Likely the rank that hosts the store has ended. Next: look at that rank's output for the first error.",
            cause);

    public static DistributedException NotAStore(string host, int port, uint sent, uint got) =>
        new(
            $"What answers at {host}:{port} is not a TCPStore: it returned 0x{got:X8} where the handshake expects 0x{sent:X8}. "
            + "Likely another service has this port. Next: choose another MASTER_PORT, the same on all ranks.");

    public static DistributedException ConnectionLost(string host, int port, string operation, Exception cause, bool isFinal) =>
        new(
            $"The connection to the store server at {host}:{port} was lost during {operation}: {cause.Message} "
            + "Likely the rank that hosts the store has ended, or the server refused the request "
            + "(a counter that is not a number, a store that is full). "
            + "Next: look at that rank's output for the first error."
            + (isFinal ? " This store takes no further calls." : ""),
            cause);

    public static DistributedException ListenFailed(int port, Exception cause) =>
        new(
            $"The server socket has failed to listen on any local network address. port: {port}: {cause.Message}. "
            + "Likely another process, perhaps one of an earlier run, has the port (EADDRINUSE), or ports below 1024 are not allowed. "
            + "Next: end that process, or choose another MASTER_PORT, or port 0 for a free one.",
            cause);

    public static DistributedTimeoutException WorkersMissing(TimeSpan waited, long joined, int worldSize, string store) =>
        new(
            $"Timed out after {Math.Ceiling(waited.TotalSeconds).ToString(CultureInfo.InvariantCulture)} seconds waiting for clients. "
            + $"{joined}/{worldSize} clients joined. Store: {store}. "
            + "Likely a rank has failed before it joined, or fewer ranks were started than the world size says. "
            + "Next: look at the output of the other ranks, and compare WORLD_SIZE with the number of processes.");

    public static DistributedException NotACounter(string key, string value, Exception cause) =>
        new(
            $"The value of key '{key}' cannot be added to: '{value}' ({cause.Message}). "
            + "Likely the key was set as a value, not as a counter. Next: use one key for one purpose.",
            cause);
}
