// Trains a model of conditional branches on Fashion-MNIST, on as many processes as you like.
//
//   dotnet run -c Release -- --devices 2 --strategy ddp_find_unused_parameters_true     two processes
//   dotnet run -c Release -- --devices 1                                                one process
//   dotnet run -c Release -- --devices 2 --strategy ddp                                 the error that unused parameters cause without the flag
//
// Training.cs has the loop, BranchingNet.cs the model.
using System.CommandLine;
using FabricSharp.Collectives;
using FabricSharp.DataParallel;
using FabricSharp.Examples.FashionMnist;

var devices = new Option<string>("--devices") { Description = "Processes: a number, or \"auto\".", DefaultValueFactory = _ => "2" };
var strategy = new Option<string>("--strategy") { Description = "How the processes share the work.", DefaultValueFactory = _ => "ddp_find_unused_parameters_true" };
var hook = new Option<string>("--hook") { Description = $"What averages gradients: {string.Join(", ", TrainingOptions.Hooks.Keys)}.", DefaultValueFactory = _ => "none" };
var epochs = new Option<int>("--epochs") { Description = "Times through the data.", DefaultValueFactory = _ => 3 };
var maxSteps = new Option<int?>("--max-steps") { Description = "Stop after so many steps." };
var batchSize = new Option<int>("--batch-size") { Description = "Images per step and process.", DefaultValueFactory = _ => 64 };
var data = new Option<string?>("--data") { Description = "Folder of the four *-ubyte.gz files." };
var seed = new Option<long>("--seed") { Description = "For weights, order and branches.", DefaultValueFactory = _ => 42 };
var json = new Option<bool>("--json") { Description = "End with one line of JSON." };

var command = new RootCommand("Trains a model of conditional branches on Fashion-MNIST.") { devices, strategy, hook, epochs, maxSteps, batchSize, data, seed, json };
command.SetAction(result => Training.Run(new TrainingOptions(
    result.GetValue(devices)!,
    result.GetValue(strategy)!,
    result.GetValue(hook)!,
    result.GetValue(epochs),
    result.GetValue(maxSteps),
    result.GetValue(batchSize),
    result.GetValue(data),
    result.GetValue(seed),
    result.GetValue(json))));
try
{
    return command.Parse(args).Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false });
}
catch (Exception e) when (e is ArgumentException or FileNotFoundException or InvalidDataException or UnfinishedReductionException or DistributedException)
{
    Console.Error.WriteLine($"{e.GetType().Name}: {e.Message}"); // what the user can mend; anything else keeps its stack trace
    return 1;
}
