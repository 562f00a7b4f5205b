namespace FabricSharp.Configuration;

/// <summary>The error for a name that is not among the known ones: it lists them and guesses which was meant.</summary>
internal static class UnknownName
{
    public static ArgumentException For(string argument, string value, IEnumerable<string> accepted)
    {
        var names = accepted.ToList();
        return new ArgumentException(
            $"You selected an invalid {argument} name: `{argument}='{value}'`.{Guess(value, names)} Available names are: {string.Join(", ", names)}.", argument);
    }

    /// <summary>The question whether the nearest of <paramref name="accepted"/> was meant, with a space before it; empty where none is near.</summary>
    public static string Guess(string value, IReadOnlyList<string> accepted)
    {
        var nearest = accepted.MinBy(name => Distance(name, value.ToLowerInvariant()))!;
        return Distance(nearest, value.ToLowerInvariant()) <= Math.Max(2, value.Length / 3) ? $" Did you mean '{nearest}'?" : "";
    }

    /// <summary>Levenshtein: insertions, deletions and replacements.</summary>
    private static int Distance(string a, string b)
    {
        var row = Enumerable.Range(0, b.Length + 1).ToArray();
        for (var i = 1; i <= a.Length; i++)
        {
            var diagonal = row[0];
            row[0] = i;
            for (var j = 1; j <= b.Length; j++)
            {
                var replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
                diagonal = row[j];
                row[j] = Math.Min(replaced, Math.Min(row[j], row[j - 1]) + 1);
            }
        }

        return row[^1];
    }
}
