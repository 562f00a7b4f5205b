using System.Globalization;
using System.Text.RegularExpressions;

namespace FabricSharp.Loggers;

/// <summary>Names and numbers of the folders of runs: <c>root/name/version_N/sub-folder</c>. Makes none of them.</summary>
internal static partial class LogFolder
{
    /// <summary>Replaces <c>~</c> at the beginning and <c>$NAME</c> or <c>${NAME}</c> anywhere; unknown names are left as they are.</summary>
    public static string Expand(string path)
    {
        if (path == "~" || path.StartsWith("~/", StringComparison.Ordinal))
            path = Environment.GetFolderPath(Environment.SpecialFolder.UserProfile) + path[1..];
        return VariableName().Replace(path, match => Environment.GetEnvironmentVariable(match.Groups[1].Value + match.Groups[2].Value) ?? match.Value);
    }

    /// <summary>One more than the highest number among the <c>version_N</c> folders of <paramref name="experiment"/>.</summary>
    public static LogVersion Next(string experiment)
    {
        if (!Directory.Exists(experiment))
            return 0;
        var numbers = Directory.EnumerateDirectories(experiment, "version_*").Select(NumberOf);
        return numbers.DefaultIfEmpty(-1).Max() + 1;
    }

    private static int NumberOf(string folder) =>
        int.TryParse(Path.GetFileName(folder)["version_".Length..], NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : -1;

    [GeneratedRegex(@"\$(?:(\w+)|\{(\w+)\})")]
    private static partial Regex VariableName();
}
