namespace FabricSharp.Interop.Posix;

/// <summary>What all processes of a machine have in common until it starts anew: the machine itself, and its monotonic clock.</summary>
internal static class BootId
{
    private const string Path = "/proc/sys/kernel/random/boot_id";

    /// <summary>Empty where it is not known.</summary>
    public static string Text { get; } = Read();

    private static string Read()
    {
        try
        {
            return File.Exists(Path) ? File.ReadAllText(Path).Trim() : "";
        }
        catch (IOException)
        {
            return "";
        }
    }
}
