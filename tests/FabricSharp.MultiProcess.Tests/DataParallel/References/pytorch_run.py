#!/usr/bin/env python3
"""Trains one of the four models with PyTorch's DistributedDataParallel (Gloo, one process per rank), and prints what a recorded run holds.

    FabricSharp.MultiProcess.Worker export-reference model=gpt ranks=4 file=/tmp/gpt
    OMP_NUM_THREADS=1 python3 pytorch_run.py gpt 4 /tmp/gpt > gpt-4.pytorch.json

The first weights and the batches are those that the export wrote, so that both frameworks compute the same thing. Needs PyTorch only.
"""
import json, os, struct, sys
import torch, torch.distributed as dist, torch.multiprocessing as mp
from torch import nn
from torch.nn import functional as F

STEPS, LEARNING_RATE = 100, 0.01


def read(folder):
    """The tensors of a checkpoint's .safetensors files, read by hand."""
    types = {"F32": (torch.float32, 4), "I64": (torch.int64, 8)}
    tensors = {}
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".safetensors"):
            continue
        data = open(os.path.join(folder, name), "rb").read()
        size = struct.unpack("<Q", data[:8])[0]
        for key, entry in json.loads(data[8:8 + size]).items():
            if key != "__metadata__":
                begin, end = entry["data_offsets"]
                kind = types[entry["dtype"]][0]
                tensors[key] = torch.frombuffer(bytearray(data[8 + size + begin:8 + size + end]), dtype=kind).reshape(entry["shape"])
    return tensors


class Experts(nn.Module):
    def __init__(self, count, width):
        super().__init__()
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)) for _ in range(count))
        self.chosen = 0

    def forward(self, x):
        return self.experts[self.chosen](x)


class Block(nn.Module):
    def __init__(self, width, heads=4):
        super().__init__()
        self.heads, self.width = heads, width
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def attend(self, x):
        batch, length, _ = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, self.width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-2, -1) / (self.width // self.heads) ** 0.5
        scores = scores.masked_fill(torch.ones(length, length).tril() == 0, float("-inf"))
        return self.mix((scores.softmax(-1) @ v).transpose(1, 2).contiguous().view(batch, length, self.width))

    def forward(self, x):
        x = x + self.attend(self.norm1(x))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class SmallGpt(nn.Module):
    def __init__(self, vocabulary, length, width, depth):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, x):
        x = self.tokens(x) + self.positions(torch.arange(x.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def layers(count, width):
    return nn.Sequential(*[part for _ in range(count) for part in (nn.Linear(width, width), nn.ReLU())])


def make(model):
    return {"mlp": lambda: layers(8, 160), "gpt": lambda: SmallGpt(50, 16, 32, 2), "deep": lambda: layers(120, 16), "branchy": lambda: Experts(10, 140)}[model]()


def run(rank, model, ranks, folder, results):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29617")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=ranks)
    tensors = read(folder)
    net = make(model)
    net.load_state_dict({name: tensors[name] for name, _ in net.named_parameters()})
    ddp = nn.parallel.DistributedDataParallel(net, find_unused_parameters=model == "branchy")
    optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad(set_to_none=True)
        if model == "branchy":
            net.chosen = step % 10
        output = ddp(tensors[f"input.{step}.{rank}"])
        target = tensors.get(f"target.{step}.{rank}")
        loss = output.square().mean() if target is None else F.cross_entropy(output.reshape(-1, output.shape[-1]), target.reshape(-1))
        loss.backward()
        optimizer.step()
        mean = loss.detach().double()
        dist.all_reduce(mean)
        losses.append(mean.item() / ranks)
    if rank == 0:
        results["losses"] = losses
        results["parameters"] = {name: [p.detach().double().norm().item(), p.detach().double().sum().item()] for name, p in net.named_parameters()}
    dist.barrier()


if __name__ == "__main__":
    model, ranks, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(run, (model, ranks, folder, results), nprocs=ranks)
        print(json.dumps({
            "model": model, "ranks": ranks,
            "produced": f"torch.nn.parallel.DistributedDataParallel of PyTorch {torch.__version__}, Gloo, one process per rank, one thread each: pytorch_run.py {model} {ranks}, on what export-reference wrote",
            "losses": results["losses"], "parameters": results["parameters"]}))
