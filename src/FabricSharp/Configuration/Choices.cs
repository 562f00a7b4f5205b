using System.Globalization;
using FabricSharp.Accelerators;
using FabricSharp.Precision;
using FabricSharp.Strategies;

namespace FabricSharp;

/// <summary>An accelerator by name (<c>auto</c>, <c>cpu</c>, <c>cuda</c>, <c>gpu</c>, <c>mps</c>) or as an object. The default is <c>auto</c>.</summary>
public readonly record struct AcceleratorChoice
{
    private AcceleratorChoice(string? name, Accelerator? accelerator)
    {
        Name = name;
        Accelerator = accelerator;
    }

    internal string? Name { get; }

    internal Accelerator? Accelerator { get; }

    internal bool IsDefault => Accelerator is null && (Name is null || Name.Equals("auto", StringComparison.OrdinalIgnoreCase));

    /// <summary>By name.</summary>
    public static implicit operator AcceleratorChoice(string name) => new(name ?? throw new ArgumentNullException(nameof(name)), null);

    /// <summary>As an object.</summary>
    public static implicit operator AcceleratorChoice(Accelerator accelerator) => new(null, accelerator ?? throw new ArgumentNullException(nameof(accelerator)));

    /// <inheritdoc/>
    public bool Equals(AcceleratorChoice other) => Accelerator == other.Accelerator && string.Equals(Name, other.Name, StringComparison.OrdinalIgnoreCase);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Accelerator, Name?.ToUpperInvariant());

    /// <inheritdoc/>
    public override string ToString() => Name ?? Accelerator?.Name ?? "auto";
}

/// <summary>A strategy by registered name (see <see cref="StrategyRegistry.Available"/>) or as an object. The default is <c>auto</c>.</summary>
public readonly record struct StrategyChoice
{
    private StrategyChoice(string? name, Strategy? strategy)
    {
        Name = name;
        Strategy = strategy;
    }

    internal string? Name { get; }

    internal Strategy? Strategy { get; }

    internal bool IsDefault => Strategy is null && (Name is null || Name.Equals("auto", StringComparison.OrdinalIgnoreCase));

    /// <summary>By name.</summary>
    public static implicit operator StrategyChoice(string name) => new(name ?? throw new ArgumentNullException(nameof(name)), null);

    /// <summary>As an object.</summary>
    public static implicit operator StrategyChoice(Strategy strategy) => new(null, strategy ?? throw new ArgumentNullException(nameof(strategy)));

    /// <inheritdoc/>
    public bool Equals(StrategyChoice other) => Strategy == other.Strategy && string.Equals(Name, other.Name, StringComparison.OrdinalIgnoreCase);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Strategy, Name?.ToUpperInvariant());

    /// <inheritdoc/>
    public override string ToString() => Name ?? Strategy?.GetType().Name ?? "auto";
}

/// <summary>
/// A precision by name (see <see cref="PrecisionPlugin.Available"/>), by number of bits (64, 32, 16: short forms of <c>64-true</c>, <c>32-true</c>,
/// <c>16-mixed</c>) or as an object. The default is <c>32-true</c>.
/// </summary>
public readonly record struct PrecisionChoice
{
    private readonly string? _name;

    private PrecisionChoice(string? name, PrecisionPlugin? plugin)
    {
        _name = name;
        Plugin = plugin;
    }

    internal string Name => _name ?? "32-true";

    internal PrecisionPlugin? Plugin { get; }

    /// <summary>By name.</summary>
    public static implicit operator PrecisionChoice(string name) => new(name ?? throw new ArgumentNullException(nameof(name)), null);

    /// <summary>By number of bits.</summary>
    public static implicit operator PrecisionChoice(int bits) => new(bits.ToString(CultureInfo.InvariantCulture), null);

    /// <summary>As an object.</summary>
    public static implicit operator PrecisionChoice(PrecisionPlugin plugin) => new(null, plugin ?? throw new ArgumentNullException(nameof(plugin)));

    /// <summary>Whether both mean the same precision: <c>16</c> is <c>16-mixed</c>.</summary>
    public bool Equals(PrecisionChoice other) => Plugin == other.Plugin && PrecisionNames.Canonical(Name) == PrecisionNames.Canonical(other.Name);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Plugin, PrecisionNames.Canonical(Name));

    /// <inheritdoc/>
    public override string ToString() => Plugin?.Name ?? Name;
}
