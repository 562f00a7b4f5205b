namespace FabricSharp.Diagnostics;

/// <summary>Files that are written as a whole: whoever looks sees the old one or the new one, never a part.</summary>
internal static class ReplacedFile
{
    /// <summary>Writes beside <paramref name="path"/>, then takes its place. The folder must exist.</summary>
    public static void Write(string path, Action<Stream> write)
    {
        var beside = path + ".new";
        using (var stream = new FileStream(beside, FileMode.Create, FileAccess.Write, FileShare.Read))
            write(stream);
        File.Move(beside, path, overwrite: true);
    }
}
