using System.Globalization;

namespace FabricSharp.Loggers;

/// <summary>The run that a logger writes: a number, whose folder is <c>version_N</c>, or a text, which is the folder's name itself.</summary>
public readonly record struct LogVersion
{
    private LogVersion(string text, string folder)
    {
        Text = text;
        Folder = folder;
    }

    internal string Text { get; }

    internal string Folder { get; }

    /// <summary>By number, from 0.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The number is negative.</exception>
    public static implicit operator LogVersion(int number)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(number);
        var text = number.ToString(CultureInfo.InvariantCulture);
        return new LogVersion(text, $"version_{text}");
    }

    /// <summary>By name.</summary>
    /// <exception cref="ArgumentException">The name is empty.</exception>
    public static implicit operator LogVersion(string name)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        return new LogVersion(name, name);
    }

    /// <inheritdoc/>
    public override string ToString() => Text ?? "";
}
