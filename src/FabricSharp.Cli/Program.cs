using System.CommandLine;
using FabricSharp.Cli.Commands;

return new RootCommand("FabricSharp: distributed training of TorchSharp models.") { RunCommand.Create(), DoctorCommand.Create(), CheckpointCommand.Create(), ReportCommand.Create(), BenchCommand.Create(), ProbeLibTorchCommand.Create(), BenchRankCommand.Create() }.Parse(args).Invoke();
