namespace FabricSharp.Tests.Configuration;

/// <summary>Environment variables that a test makes up, so that the machine's own do not matter.</summary>
internal static class RecordedVariables
{
    public static readonly Func<string, string?> None = Of();

    public static Func<string, string?> Of(params (string Name, string Value)[] variables) =>
        name => variables.FirstOrDefault(variable => variable.Name == name).Value;
}
