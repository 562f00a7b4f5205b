using System;
using System.Collections.Generic;
using System.IO;
using System.Text;
using Microsoft.Build.Framework;
using Microsoft.Build.Utilities;

/// <summary>
/// Marks a symbol version that an ELF library requires as weak (VER_FLG_WEAK in .gnu.version_r), so that a system whose library lacks
/// the version loads it all the same. Done only where no relocation needs a symbol of that version, and only in a copy.
/// Compiled by MSBuild when it is needed: C# of the .NET Standard 2.0.
/// </summary>
public class WeakenVersionRequirement : Task
{
    /// <summary>Libraries; metadata <c>Weakened</c> says where the copy goes.</summary>
    [Required]
    public ITaskItem[] Libraries { get; set; }

    /// <summary>For example <c>GLIBCXX_3.4.32</c>.</summary>
    [Required]
    public string VersionName { get; set; }

    /// <inheritdoc/>
    public override bool Execute()
    {
        foreach (var library in Libraries)
        {
            var copy = library.GetMetadata("Weakened");
            try
            {
                var content = File.ReadAllBytes(library.ItemSpec);
                var outcome = ElfVersionRequirements.Weaken(content, VersionName);
                WriteCopy(library.ItemSpec, copy, content);
                Log.LogMessage(MessageImportance.Low, "FabricSharp: {0}: {1} {2}.", library.ItemSpec, VersionName, outcome);
            }
            catch (Exception e) when (e is InvalidDataException || e is IOException || e is UnauthorizedAccessException)
            {
                if (File.Exists(copy))
                    File.Delete(copy); // of an earlier build, from a library that was not damaged
                Log.LogWarning(
                    null, "FABRIC0001", null, library.ItemSpec, 0, 0, 0, 0,
                    "The library is taken as it is, for its requirement of {0} could not be marked weak: {1} Systems whose libstdc++ is older than GCC 13's " +
                    "(Debian 12, Ubuntu 22.04) will not load it. Is the package cache damaged? To be without this step set FabricSharpWeakenLibstdcxx to false.",
                    VersionName, e.Message);
            }
        }

        return !Log.HasLoggedErrors;
    }

    /// <summary>Writes beside the final name and renames: a build that is interrupted leaves no half file.</summary>
    private static void WriteCopy(string original, string copy, byte[] content)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(copy));
        var temporary = copy + "." + Guid.NewGuid().ToString("N");
        File.Copy(original, temporary); // takes the mode along
        File.WriteAllBytes(temporary, content);
        File.Delete(copy);
        File.Move(temporary, copy);
    }
}

/// <summary>What an edit of a library's version requirements came to.</summary>
public enum VersionRequirementOutcome
{
    /// <summary>The library does not require the version.</summary>
    NotRequired,

    /// <summary>It is marked weak already.</summary>
    AlreadyWeak,

    /// <summary>It was marked weak now.</summary>
    Weakened,
}

/// <summary>
/// Reads the version requirements of a 64-bit little-endian ELF file (System V gABI; "Symbol Versioning" in the Linux Standard Base).
/// Every offset is checked before it is used.
/// </summary>
public static class ElfVersionRequirements
{
    private const uint DynamicSymbols = 11, Relocations = 4, VersionRequirements = 0x6ffffffe, SymbolVersions = 0x6fffffff;
    private const ushort Weak = 2;

    /// <summary>Marks the version weak in <paramref name="file"/>, in place.</summary>
    /// <exception cref="InvalidDataException">No such ELF file, or a relocation needs a symbol of the version; the content is unchanged.</exception>
    public static VersionRequirementOutcome Weaken(byte[] file, string versionName)
    {
        var sections = ReadSections(file);
        var requirement = FindRequirement(file, sections, versionName);
        if (requirement < 0)
            return VersionRequirementOutcome.NotRequired;
        var flags = U16(file, requirement + 4);
        if ((flags & Weak) != 0)
            return VersionRequirementOutcome.AlreadyWeak;
        RefuseIfNeeded(file, sections, U16(file, requirement + 6) & 0x7fff, versionName);
        file[requirement + 4] = (byte)(flags | Weak);
        return VersionRequirementOutcome.Weakened;
    }

    private static List<Section> ReadSections(byte[] file)
    {
        if (file.Length < 64 || file[0] != 0x7f || file[1] != 'E' || file[2] != 'L' || file[3] != 'F')
            throw new InvalidDataException("It is no ELF file.");
        if (file[4] != 2 || file[5] != 1)
            throw new InvalidDataException("It is no 64-bit little-endian ELF file.");
        var table = Offset(file, U64(file, 40));
        int entrySize = U16(file, 58), count = U16(file, 60);
        if (entrySize != 64 || count == 0)
            throw new InvalidDataException("It has no usable section table.");
        var sections = new List<Section>();
        for (var i = 0; i < count; i++)
        {
            var at = checked(table + i * entrySize);
            var section = new Section { Type = U32(file, at + 4), Link = U32(file, at + 40) };
            if (section.Type == DynamicSymbols || section.Type == Relocations || section.Type == VersionRequirements || section.Type == SymbolVersions || section.Type == 3)
            {
                section.Start = Offset(file, U64(file, at + 24));
                var length = U64(file, at + 32);
                if (length > (ulong)(file.Length - section.Start))
                    throw new InvalidDataException("A section ends behind the end of the file.");
                section.Length = (int)length;
            }

            sections.Add(section);
        }

        return sections;
    }

    /// <summary>Where the entry (Elf64_Vernaux) of the version is; -1 when there is none.</summary>
    private static int FindRequirement(byte[] file, List<Section> sections, string versionName)
    {
        var section = sections.Find(s => s.Type == VersionRequirements);
        if (section == null)
            return -1;
        if (section.Link >= sections.Count)
            throw new InvalidDataException("The version requirements have no string table.");
        var strings = sections[(int)section.Link];
        long library = section.Start;
        while (true)
        {
            int entries = U16(file, library + 2);
            var entry = library + U32(file, library + 8);
            for (var i = 0; i < entries; i++)
            {
                if (Text(file, strings, U32(file, entry + 8)) == versionName)
                    return (int)entry;
                entry += U32(file, entry + 12);
            }

            var next = U32(file, library + 12);
            if (next == 0)
                return -1;
            library += next;
        }
    }

    /// <summary>A weak requirement lets the library load, but a call of a symbol that is not there would end the process.</summary>
    private static void RefuseIfNeeded(byte[] file, List<Section> sections, int version, string versionName)
    {
        var symbols = sections.Find(s => s.Type == DynamicSymbols);
        var versions = sections.Find(s => s.Type == SymbolVersions);
        if (symbols == null || versions == null)
            throw new InvalidDataException("It has no versioned symbols.");
        foreach (var section in sections.FindAll(s => s.Type == Relocations))
            for (var at = section.Start; at + 24 <= section.Start + section.Length; at += 24)
            {
                var symbol = (long)(U64(file, at + 8) >> 32);
                if (symbol != 0 && symbol * 2 + 2 <= versions.Length && (U16(file, versions.Start + symbol * 2) & 0x7fff) == version)
                    throw new InvalidDataException("It needs symbol " + symbol + " of " + versionName + ".");
            }
    }

    private static string Text(byte[] file, Section strings, uint offset)
    {
        if (offset >= strings.Length)
            throw new InvalidDataException("A name lies outside its string table.");
        var start = strings.Start + (int)offset;
        var end = Array.IndexOf(file, (byte)0, start, strings.Start + strings.Length - start);
        if (end < 0)
            throw new InvalidDataException("A name has no end.");
        return Encoding.ASCII.GetString(file, start, end - start);
    }

    private static int Offset(byte[] file, ulong offset)
    {
        if (offset > (ulong)file.Length)
            throw new InvalidDataException("An offset lies behind the end of the file.");
        return (int)offset;
    }

    private static void Require(byte[] file, long at, int length)
    {
        if (at < 0 || at > file.Length - length)
            throw new InvalidDataException("An entry lies behind the end of the file.");
    }

    private static ushort U16(byte[] file, long at)
    {
        Require(file, at, 2);
        return BitConverter.ToUInt16(file, (int)at);
    }

    private static uint U32(byte[] file, long at)
    {
        Require(file, at, 4);
        return BitConverter.ToUInt32(file, (int)at);
    }

    private static ulong U64(byte[] file, long at)
    {
        Require(file, at, 8);
        return BitConverter.ToUInt64(file, (int)at);
    }

    private sealed class Section
    {
        public uint Type;
        public uint Link;
        public int Start;
        public int Length;
    }
}
