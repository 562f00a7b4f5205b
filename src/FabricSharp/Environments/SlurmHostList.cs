namespace FabricSharp.Environments;

/// <summary>SLURM's short form of lists of machines: <c>host5</c>, <c>host[5-9]</c>, <c>host[5,7]</c>, <c>a1,b2</c>, <c>host[001-010]</c>.</summary>
internal static class SlurmHostList
{
    /// <summary>The first machine of <paramref name="list"/>; null where it is malformed.</summary>
    public static string? First(string list)
    {
        var name = new System.Text.StringBuilder();
        for (var at = 0; at < list.Length && list[at] is not (',' or ' '); at++)
        {
            if (list[at] != '[')
            {
                name.Append(list[at]);
                continue;
            }

            var end = list.IndexOf(']', at);
            if (end < 0)
                return null;
            var number = list[(at + 1)..end].Split(',', '-')[0];
            if (number.Length == 0 || !number.All(char.IsAsciiDigit))
                return null;
            name.Append(number); // with its leading zeros
            at = end;
        }

        return name.Length > 0 && !name.ToString().Contains(']', StringComparison.Ordinal) ? name.ToString() : null;
    }
}
