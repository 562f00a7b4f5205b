using static TorchSharp.torch;

namespace FabricSharp.Checkpointing.PyTorch;

/// <summary>
/// Brings the names of a file together with those of a module: takes off what wrappers in Python put in front (<c>module.</c>,
/// <c>_forward_module.</c>, <c>_orig_mod.</c>, and Lightning's attribute <c>model.</c>) where that makes more names fit, and matches names that differ
/// in case and underscores alone. Names that fit as they are stay as they are.
/// </summary>
internal static class PythonNames
{
    /// <summary>How many wrappers may lie around one another.</summary>
    private const int MaxPrefixes = 3;

    private const string Compiled = "_orig_mod.";

    private static readonly string[] Prefixes = ["module.", "_forward_module.", Compiled, "model."];

    /// <summary>The tensors of <paramref name="file"/> under the names of <paramref name="module"/>, as far as they are found.</summary>
    public static TensorFile Fit(TensorFile file, nn.Module module)
    {
        var wanted = module.state_dict().Keys.ToHashSet();
        if (wanted.SetEquals(file.Tensors.Keys))
            return file;
        var names = Best([.. file.Tensors.Keys], wanted);
        MatchLoosely(names, wanted);
        DropTied(names, wanted, file);
        return new RenamedTensors(file, names);
    }

    private static Dictionary<string, string> Best(IReadOnlyList<string> stored, HashSet<string> wanted)
    {
        var best = stored.ToDictionary(name => name);
        var wantedLoosely = wanted.Select(Loose).ToHashSet();
        (int, int) Score(Dictionary<string, string> names) => (names.Keys.Count(wanted.Contains), names.Keys.Count(name => wantedLoosely.Contains(Loose(name))));
        var most = Score(best);
        foreach (var prefixes in Combinations(MaxPrefixes))
            foreach (var compiledInside in new[] { false, true })
                if (Renamed(stored, prefixes, compiledInside) is { } renamed && Score(renamed) is var score && score.CompareTo(most) > 0)
                    (best, most) = (renamed, score);
        return best;
    }

    /// <summary>None first, then the shorter ones.</summary>
    private static IEnumerable<string[]> Combinations(int length) => length == 0
        ? [[]]
        : Combinations(length - 1).Concat(Combinations(length - 1).Where(shorter => shorter.Length == length - 1).SelectMany(shorter => Prefixes.Select(prefix => shorter.Append(prefix).ToArray())));

    /// <returns>New name → name; null when two names became one, or no name has one of the prefixes.</returns>
    private static Dictionary<string, string>? Renamed(IReadOnlyList<string> stored, string[] prefixes, bool compiledInside)
    {
        var renamed = new Dictionary<string, string>();
        var found = new bool[prefixes.Length];
        foreach (var name in stored)
        {
            var rest = name;
            foreach (var (index, prefix) in prefixes.Index())
                if (rest.StartsWith(prefix, StringComparison.Ordinal))
                    (rest, found[index]) = (rest[prefix.Length..], true);
            if (compiledInside)
                rest = rest.Replace("." + Compiled, ".", StringComparison.Ordinal);
            if (!renamed.TryAdd(rest, name))
                return null;
        }

        return found.All(f => f) ? renamed : null;
    }

    private static void MatchLoosely(Dictionary<string, string> names, HashSet<string> wanted)
    {
        var free = names.Keys.Where(name => !wanted.Contains(name)).ToLookup(Loose);
        foreach (var group in wanted.Where(name => !names.ContainsKey(name)).ToLookup(Loose))
            if (group.ToList() is [var missing] && free[group.Key].ToList() is [var found])
            {
                names.Add(missing, names[found]);
                names.Remove(found);
            }
    }

    private static string Loose(string name) => name.Replace("_", "", StringComparison.Ordinal).ToLowerInvariant();

    /// <summary>PyTorch saves tied tensors under each of their names, TorchSharp has them once.</summary>
    private static void DropTied(Dictionary<string, string> names, HashSet<string> wanted, TensorFile file)
    {
        var used = names.Where(name => wanted.Contains(name.Key)).Select(name => file.PlaceOf(name.Value)).Where(place => place is not null).ToHashSet();
        foreach (var name in names.Keys.Where(name => !wanted.Contains(name) && file.PlaceOf(names[name]) is { } place && used.Contains(place)).ToList())
            names.Remove(name);
    }
}
