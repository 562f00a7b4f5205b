using FabricSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;
var n = int.Parse(args[1]);
var fabric = new Fabric(accelerator: "cpu", devices: n, strategy: args[0]);
Console.WriteLine("hooks: " + FabricSharp.Interop.LibTorch.GradientHooks.NotSupportedReason);
if (args[0].Contains("notebook")) fabric.Launch(Run); else { fabric.Launch(); Run(fabric); }
static void Run(Fabric fabric)
{
    var net = new Branchy();
    var (model, opt) = fabric.Setup(net, optim.SGD(net.parameters(), 0.01));
    for (int s = 0; s < 6; s++)
    {
        opt.zero_grad();
        net.Pick = (s + fabric.GlobalRank) % 3;
        var loss = model.call(ones(4, 8) * (fabric.GlobalRank + 1)).mean();
        fabric.Backward(loss);
        opt.step();
        if (s < 5) Console.WriteLine($"rank {fabric.GlobalRank} step {s} " + string.Join(" ", model.named_parameters().Select(p => p.name + "=" + (p.parameter.grad is null ? "null" : p.parameter.grad.sum().item<float>().ToString("F4")))));
    }
    Console.WriteLine(string.Join(" ", model.parameters().Select(p => p.sum().item<float>().ToString("R"))));
}
class Branchy : Module<Tensor, Tensor>
{
    public int Pick;
    public TorchSharp.Modules.Linear trunk = Linear(8, 8); TorchSharp.Modules.Linear a = Linear(8, 3), b = Linear(8, 3), c = Linear(8, 3);
    public Branchy() : base("Branchy") => RegisterComponents();
    public override Tensor forward(Tensor x) { x = trunk.call(x); return Pick == 0 ? a.call(x) : Pick == 1 ? b.call(x) : c.call(x); }
}
