namespace FabricSharp.Collectives;
/// <summary>x</summary>
public class PrefixStore {}
