using System.Globalization;

namespace FabricSharp;

/// <summary>
/// Which devices, so how many ranks per machine: <c>"auto"</c>, a number, -1 for all, device numbers as <c>"0,1"</c> or <c>int[]</c>.
/// As in Lightning, the text <c>"2"</c> is a number of devices, <c>"2,"</c> the device number 2.
/// </summary>
public readonly record struct DeviceSelection
{
    private DeviceSelection(int? count, IReadOnlyList<int>? indices)
    {
        Count = count;
        Indices = indices;
    }

    /// <summary>The default: whatever the accelerator suggests.</summary>
    public static DeviceSelection Auto => default;

    internal bool IsAuto => Count is null && Indices is null;

    internal int? Count { get; }

    internal IReadOnlyList<int>? Indices { get; }

    /// <summary>A number of devices; -1 means all.</summary>
    public static implicit operator DeviceSelection(int count) =>
        count is > 0 or -1 ? new(count, null) : throw Invalid(count.ToString(CultureInfo.InvariantCulture));

    /// <summary>Device numbers.</summary>
    public static implicit operator DeviceSelection(int[] indices)
    {
        ArgumentNullException.ThrowIfNull(indices);
        var text = $"[{string.Join(", ", indices)}]";
        if (indices.Length == 0 || indices.Any(index => index < 0))
            throw Invalid(text);
        if (indices.Distinct().Count() != indices.Length)
            throw new ArgumentException($"Device ID's (GPU) must be unique: got {text}.", nameof(indices));
        return new(null, [.. indices]);
    }

    /// <summary><c>"auto"</c>, a number, or device numbers with commas.</summary>
    public static implicit operator DeviceSelection(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        var trimmed = text.Trim();
        if (trimmed.Equals("auto", StringComparison.OrdinalIgnoreCase))
            return Auto;
        if (!trimmed.Contains(',', StringComparison.Ordinal))
            return int.TryParse(trimmed, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var count) ? count : throw Invalid($"\"{text}\"");
        var parts = trimmed.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
        return parts.Select(part => int.TryParse(part, NumberStyles.None, CultureInfo.InvariantCulture, out var index) ? index : throw Invalid($"\"{text}\"")).ToArray();
    }

    /// <summary>Whether both select the same devices; lists are compared number by number.</summary>
    public bool Equals(DeviceSelection other) =>
        Count == other.Count && (Indices is null ? other.Indices is null : other.Indices is not null && Indices.SequenceEqual(other.Indices));

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Count, Indices is null ? null : string.Join(',', Indices));

    /// <inheritdoc/>
    public override string ToString() =>
        Indices is not null ? $"[{string.Join(", ", Indices)}]" : Count?.ToString(CultureInfo.InvariantCulture) ?? "auto";

    private static ArgumentException Invalid(string value) =>
        new($"`Fabric(devices={value})` value is not a valid input. Use \"auto\", a number of devices > 0, -1 for all, or device numbers: \"0,1\" or new[] {{ 0, 1 }}.", "devices");
}
