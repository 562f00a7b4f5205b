// One program for each feature. Each file is the training loop of ../FashionMnist with one thing added; start with the file's first lines.
//
//   dotnet run -c Release -- gradient-accumulation
//   dotnet run -c Release -- --help                    what there is
using System.CommandLine;
using FabricSharp.Examples.ByFeature;

var devices = new Option<string>("--devices") { Description = "Processes.", DefaultValueFactory = _ => "2", Recursive = true };
var images = new Option<int>("--images") { Description = "How many training images are used.", DefaultValueFactory = _ => 12_000, Recursive = true };
var epochs = new Option<int?>("--epochs") { Description = "Times through them.", Recursive = true };
var data = new Option<string?>("--data") { Description = "Folder of Fashion-MNIST's four *-ubyte.gz files.", Recursive = true };
var output = new Option<string>("--output") { Description = "Where checkpoints and logs go.", DefaultValueFactory = _ => "output", Recursive = true };
var precision = new Option<string>("--precision") { Description = "For mixed-precision.", DefaultValueFactory = _ => "bf16-mixed", Recursive = true };

var command = new RootCommand("Examples by feature.") { devices, images, epochs, data, output, precision };
Add("gradient-accumulation", "an optimizer step for every four batches", GradientAccumulation.Run);
Add("callbacks-and-logging", "callbacks, CSV and TensorBoard", CallbacksAndLogging.Run);
Add("early-stopping", "rank 0 decides, every rank stops", EarlyStopping.Run);
Add("k-fold", "cross validation", KFold.Run);
Add("inference", "predictions of all ranks in one tensor, without DDP", Inference.Run);
Add("gan", "two models, two optimizers", Gan.Run);
Add("reinforcement-learning", "ranks with different numbers of environment steps", ReinforcementLearning.Run);
Add("custom-strategy", "a strategy of your own, by name", CustomStrategy.Run);
Add("custom-logger", "a logger of your own", CustomLogger.Run);
Add("mixed-precision", "bfloat16 where that is safe", MixedPrecision.Run);
Add("checkpoint-and-resume", "a run in two halves that ends as one in one go", CheckpointAndResume.Run);
Add("mixture-of-experts", "parameters that take no part in a step", MixtureOfExperts.Run);
return command.Parse(args).Invoke();

void Add(string name, string description, Action<ExampleOptions> run)
{
    var feature = new Command(name, description);
    feature.SetAction(result => run(new ExampleOptions(
        result.GetValue(devices)!,
        result.GetValue(images),
        result.GetValue(epochs),
        result.GetValue(data),
        result.GetValue(output)!,
        result.GetValue(precision)!)));
    command.Add(feature);
}
