namespace FabricSharp.Strategies;

/// <summary>How the ranks of a machine come to exist.</summary>
public enum StartMethod
{
    /// <summary>The whole program is started again for each further rank; what stands before <c>Launch</c> runs on every rank.</summary>
    Popen,

    /// <summary>As <see cref="Popen"/>, for <c>Launch(function)</c> only: a further rank ends when the function has returned.</summary>
    Spawn,

    /// <summary>Ranks are threads of this process, for <c>Launch(function)</c> only: for notebooks and tests.</summary>
    Notebook,
}
