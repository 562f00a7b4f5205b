// What several ranks cost: a data-parallel step over independent copies, and all-reduce by size.
//   dotnet run -c Release --project benchmarks/FabricSharp.Scaling -- ddp --ranks 2
//   dotnet run -c Release --project benchmarks/FabricSharp.Scaling -- all-reduce --ranks 2
//   mpirun -n 2 dotnet run -c Release --no-build --project benchmarks/FabricSharp.Scaling -- all-reduce --ranks 2 --backends shm mpi
//   dotnet run -c Release --project benchmarks/FabricSharp.Scaling -- start --ranks 2
//   dotnet run -c Release --project benchmarks/FabricSharp.Scaling -- checkpoint --folder FOLDER
//   dotnet run -c Release --project benchmarks/FabricSharp.Scaling -- machine
// Each prints a table on standard error and one JSON line per row on standard output.
using System.CommandLine;
using FabricSharp.Scaling;

var ranks = new Option<int>("--ranks") { DefaultValueFactory = _ => 2, Description = "Processes on this machine." };
var only = new Option<string[]>("--models") { DefaultValueFactory = _ => [.. ModelCase.Names], Description = $"Of: {string.Join(", ", ModelCase.Names)}.", AllowMultipleArgumentsPerToken = true };
var rounds = new Option<int>("--rounds") { DefaultValueFactory = _ => 41, Description = "Interleaved blocks per variant; the median counts." };

var cap = new Option<double>("--bucket-cap-mb") { DefaultValueFactory = _ => 25, Description = "Size of buckets in MiB." };

var sizes = new Option<long[]>("--sizes") { DefaultValueFactory = _ => AllReduceBenchmark.Sizes, Description = "Bytes.", AllowMultipleArgumentsPerToken = true };

var backends = new Option<string[]>("--backends") { DefaultValueFactory = _ => ["shm"], Description = "Of: shm, mpi (under mpirun).", AllowMultipleArgumentsPerToken = true };

var trace = new Option<bool>("--trace") { Description = "Also measure DDP that records a time line." };
var ddp = new Command("ddp", "A training step: independent copies, DDP, DDP with findUnusedParameters.") { ranks, only, rounds, cap, trace };
ddp.SetAction(result => StepBenchmark.Run(result.GetValue(ranks), result.GetValue(only)!, result.GetValue(rounds), result.GetValue(cap), result.GetValue(trace)));
var allReduce = new Command("all-reduce", "All-reduce of float32 by size.") { ranks, sizes, backends };
allReduce.SetAction(result => AllReduceBenchmark.Run(result.GetValue(ranks), result.GetValue(sizes)!, result.GetValue(backends)!));
var start = new Command("start", "From the start of the process to the end of the first step.") { ranks };
start.SetAction(result => StartBenchmark.Run(result.GetValue(ranks)));
var folder = new Option<string>("--folder") { DefaultValueFactory = _ => Path.Combine(Path.GetTempPath(), "fabric-checkpoint-benchmark"), Description = "A new folder on the disk to be measured; it is removed." };
var megabytes = new Option<int>("--megabytes") { DefaultValueFactory = _ => 500, Description = "Size of the model." };
var repetitions = new Option<int>("--rounds") { DefaultValueFactory = _ => 9, Description = "The variants take turns; the median counts." };
var checkpoint = new Command("checkpoint", "Saving and loading a model, against the disk and against TorchSharp's own files.") { folder, megabytes, repetitions };
checkpoint.SetAction(result => CheckpointBenchmark.Run(result.GetValue(folder)!, result.GetValue(megabytes), result.GetValue(repetitions)));
var machine = new Command("machine", "What the numbers were measured on.");
machine.SetAction(_ => Machine.Print());
return new RootCommand("Benchmarks of FabricSharp with several ranks.") { ddp, allReduce, start, checkpoint, machine }.Parse(args).Invoke();
