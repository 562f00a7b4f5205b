using System.Reflection;
using FabricSharp.Checkpointing;
using FabricSharp.Collectives;
using FabricSharp.Data;
using FabricSharp.DataParallel;
using FabricSharp.Diagnostics;

namespace FabricSharp.Tests.Conventions;

public class AssemblyConventionTests
{
    private const BindingFlags Everything = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Static | BindingFlags.Instance | BindingFlags.DeclaredOnly;

    private static readonly Assembly Library = typeof(Fabric).Assembly;

    private static readonly Dictionary<Type, Type> DocumentedExceptions = new()
    {
        [typeof(DistributedException)] = typeof(Exception),
        [typeof(DistributedTimeoutException)] = typeof(DistributedException),
        [typeof(PeerFailedException)] = typeof(DistributedException),
        [typeof(CollectiveMismatchException)] = typeof(DistributedException),
        [typeof(UnfinishedReductionException)] = typeof(InvalidOperationException),
        [typeof(CheckpointException)] = typeof(Exception),
        [typeof(DatasetItemException)] = typeof(Exception),
        [typeof(TrainingSpikeException)] = typeof(Exception),
    };

    [Fact]
    public void PublicTypes_OfInteropNamespaces_DoNotExist() =>
        Assert.DoesNotContain(Library.GetExportedTypes(), IsInterop);

    [Fact]
    public void PublicTypes_Always_StandInNamespacesOfTheLibrary() =>
        Assert.All(Library.GetExportedTypes(), type => Assert.Matches(@"^FabricSharp(\.\w+)?$", type.Namespace));

    [Fact]
    public void NativeMethods_OutsideInterop_DoNotExist()
    {
        var native = Library.GetTypes().SelectMany(type => type.GetMethods(Everything)).Where(method => method.Attributes.HasFlag(MethodAttributes.PinvokeImpl)).ToList();
        Assert.NotEmpty(native);
        Assert.All(native, method => Assert.True(IsInterop(method.DeclaringType!), $"{method.DeclaringType}.{method.Name} is a native method outside Interop."));
        Assert.DoesNotContain(Library.GetReferencedAssemblies(), reference => reference.Name == "TorchSharp.Native");
    }

    [Fact]
    public void PublicExceptions_Always_DeriveAsDocumented()
    {
        var found = Library.GetExportedTypes().Where(typeof(Exception).IsAssignableFrom).ToDictionary(type => type, type => type.BaseType!);
        Assert.Superset(DocumentedExceptions.Keys.ToHashSet(), found.Keys.ToHashSet());
        Assert.All(found, pair => Assert.True(
            DocumentedExceptions.TryGetValue(pair.Key, out var parent) ? parent == pair.Value : typeof(DistributedException).IsAssignableFrom(pair.Key) || typeof(InvalidOperationException).IsAssignableFrom(pair.Key),
            $"{pair.Key.Name} derives from {pair.Value.Name}."));
        Assert.All(found.Keys.Except([typeof(DistributedException)]), type => Assert.True(type.IsSealed || found.ContainsValue(type), $"{type.Name} is neither sealed nor a base of others."));
    }

    [Fact]
    public void InternalClasses_Always_AreSealedUnlessSomethingDerivesFromThem()
    {
        var classes = Library.GetTypes().Where(type => type is { IsClass: true, IsVisible: false } && !type.Name.Contains('<')).ToList();
        var bases = Library.GetTypes().Select(type => type.BaseType).Where(type => type is not null).Select(type => type!.IsGenericType ? type.GetGenericTypeDefinition() : type).ToHashSet();
        Assert.All(classes, type => Assert.True(type.IsSealed || bases.Contains(type), $"{type} is not sealed, and nothing derives from it."));
    }

    [Fact]
    public void PublicFields_Always_AreConstantOrReadOnly() => Assert.All(
        Library.GetExportedTypes().Where(type => !type.IsEnum).SelectMany(type => type.GetFields(BindingFlags.Public | BindingFlags.Static | BindingFlags.Instance | BindingFlags.DeclaredOnly)),
        field => Assert.True(field.IsInitOnly || field.IsLiteral, $"{field.DeclaringType}.{field.Name} can be written."));

    private static bool IsInterop(Type type) => type.Namespace?.Split('.').Contains("Interop") ?? false;
}
