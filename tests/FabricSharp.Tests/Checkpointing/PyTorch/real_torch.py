"""Runs only where torch is installed. python3 real_torch.py write FOLDER | python3 real_torch.py read FILE.safetensors"""
import json
import sys

import torch


def describe(tensor):
    plain = tensor.detach().contiguous()
    return [str(plain.dtype), list(plain.shape), bytes(plain.reshape(-1).view(torch.uint8).tolist()).hex().upper() if plain.numel() else ""]


if sys.argv[1] == "write":
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.25, weight_decay=0.125)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.rand(4, 2)).pow(2).mean().backward()
        optimizer.step()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 3, "transposed": torch.arange(6.0).reshape(2, 3).t()}
    torch.save(state, sys.argv[2] + "/zip.pt")
    torch.save(state, sys.argv[2] + "/legacy.pt", _use_new_zipfile_serialization=False)
    print(json.dumps({name: describe(tensor) for name, tensor in model.state_dict().items()}))
else:
    try:
        from safetensors.torch import load_file
    except ImportError:
        print("null")
    else:
        print(json.dumps({name: describe(tensor) for name, tensor in load_file(sys.argv[2]).items()}))
