"""Makes the files of torch.save that the tests read, without torch: python3 make_torch_files.py FOLDER

Stand-in classes carry the module and name that torch's own have, so that Python's pickler writes the same pickles
(protocol 2, tensors as torch._utils._rebuild_tensor_v2, storages as persistent ids). The zip files are laid out as
PyTorchStreamWriter lays them out: uncompressed, each file on a multiple of 64 bytes by an extra field "FB", sizes in
data descriptors, a zip64 end. For each FILE there is a FILE.json with what a reader must find.
"""
import collections
import io
import json
import os
import pickle
import struct
import sys
import types
import zlib


def module(name):
    made = types.ModuleType(name)
    sys.modules[name] = made
    return made


torch, utils = module("torch"), module("torch._utils")
torch._utils = utils


def stand_in(owner, name, value):
    value.__module__, value.__qualname__, value.__name__ = owner.__name__, name, name
    setattr(owner, name, value)
    return value


TYPES = {  # storage: (dtype, struct code, TorchSharp's name)
    "FloatStorage": ("float32", "f", "Float32"), "DoubleStorage": ("float64", "d", "Float64"),
    "HalfStorage": ("float16", "e", "Float16"), "BFloat16Storage": ("bfloat16", "H", "BFloat16"),
    "LongStorage": ("int64", "q", "Int64"), "IntStorage": ("int32", "i", "Int32"), "ShortStorage": ("int16", "h", "Int16"),
    "CharStorage": ("int8", "b", "Int8"), "ByteStorage": ("uint8", "B", "Byte"), "BoolStorage": ("bool", "?", "Bool"),
    "ComplexFloatStorage": ("complex64", "ff", "ComplexFloat32"), "ComplexDoubleStorage": ("complex128", "dd", "ComplexFloat64"),
}
for storage_name in TYPES:
    stand_in(torch, storage_name, type(storage_name, (), {}))


class Size(tuple):
    def __reduce__(self):
        return (Size, (tuple(self),))


class device:
    def __init__(self, *arguments):
        self.arguments = arguments

    def __reduce__(self):
        return (device, self.arguments)


class dtype:
    def __init__(self, name):
        self.name = name

    def __reduce__(self):
        return self.name  # a global of the module torch


stand_in(torch, "Size", Size)
stand_in(torch, "device", device)
for dtype_name, _, _ in TYPES.values():
    made = dtype(dtype_name)
    made.__module__ = "torch"
    setattr(torch, dtype_name, made)


def rebuild_tensor_v2(*arguments):
    raise NotImplementedError


def rebuild_parameter(*arguments):
    raise NotImplementedError


stand_in(utils, "_rebuild_tensor_v2", rebuild_tensor_v2)
stand_in(utils, "_rebuild_parameter", rebuild_parameter)


class Storage:
    def __init__(self, kind, numbers):
        self.kind, self.count = kind, len(numbers)
        code = TYPES[kind][1]
        self.width = struct.calcsize("<" + code)
        self.bytes = b"".join(struct.pack("<" + code, *(n if isinstance(n, tuple) else (n,))) for n in numbers)


class Tensor:
    def __init__(self, storage, shape, strides=None, offset=0):
        self.storage, self.shape, self.offset = storage, tuple(shape), offset
        if strides is None:
            strides, step = [], 1
            for size in reversed(shape):
                strides.insert(0, step)
                step *= max(size, 1)
        self.strides = tuple(strides)

    def __reduce_ex__(self, protocol):
        return (utils._rebuild_tensor_v2, (self.storage, self.offset, self.shape, self.strides, False, collections.OrderedDict()))

    def row_major(self):
        def walk(dimension, at):
            if dimension == len(self.shape):
                yield self.storage.bytes[at * self.storage.width:(at + 1) * self.storage.width]
            else:
                for i in range(self.shape[dimension]):
                    yield from walk(dimension + 1, at + i * self.strides[dimension])
        return b"".join(walk(0, self.offset))


class Parameter(Tensor):
    def __reduce_ex__(self, protocol):
        return (utils._rebuild_parameter, (Tensor(self.storage, self.shape, self.strides, self.offset), True, collections.OrderedDict()))


class Pickler(pickle.Pickler):
    def __init__(self, file, legacy):
        super().__init__(file, protocol=2)
        self.legacy, self.keys = legacy, {}

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        key = self.keys.setdefault(id(value), (str(len(self.keys) + (9000 if self.legacy else 0)), value))[0]
        reference = ("storage", getattr(torch, value.kind), key, "cpu", value.count)
        return reference + (None,) if self.legacy else reference


def dump(value, legacy=False):
    stream = io.BytesIO()
    pickler = Pickler(stream, legacy)
    pickler.dump(value)
    return stream.getvalue(), [(key, storage) for key, storage in pickler.keys.values()]


class Zip:
    def __init__(self, folder):
        self.folder, self.data, self.central, self.count = folder, b"", b"", 0

    def add(self, name, content):
        name = (self.folder + "/" + name).encode()
        offset, crc = len(self.data), zlib.crc32(content)
        padding = -(offset + 30 + len(name) + 4) % 64
        extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
        sizes = struct.pack("<III", crc, len(content), len(content))
        self.data += struct.pack("<IHHHHH", 0x04034b50, 0, 0x0808, 0, 0, 0) + bytes(12) + struct.pack("<HH", len(name), len(extra)) + name + extra
        self.data += content + struct.pack("<I", 0x08074b50) + sizes
        self.central += struct.pack("<IHHHHHH", 0x02014b50, 0, 0, 0x0808, 0, 0, 0) + sizes + struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, offset) + name
        self.count += 1

    def finish(self):
        start, size = len(self.data), len(self.central)
        end64 = struct.pack("<IQHHIIQQQQ", 0x06064b50, 44, 45, 45, 0, 0, self.count, self.count, size, start)
        locator = struct.pack("<IIQI", 0x07064b50, 0, start + size, 1)
        end = struct.pack("<IHHHHIIH", 0x06054b50, 0, 0, self.count, self.count, size, 0xFFFFFFFF, 0)
        return self.data + self.central + end64 + locator + end


def zip_file(folder, value):
    pickled, storages = dump(value)
    archive = Zip(folder)
    archive.add("data.pkl", pickled)
    archive.add(".format_version", b"1")
    archive.add(".storage_alignment", b"64")
    archive.add("byteorder", b"little")
    for key, storage in storages:
        archive.add("data/" + key, storage.bytes)
    archive.add("version", b"3\n")
    archive.add(".data/serialization_id", b"0" * 40)
    return archive.finish()


def legacy_file(value):
    system = dict(protocol_version=1001, little_endian=True, type_sizes=dict(short=2, int=4, long=4))
    pickled, storages = dump(value, legacy=True)
    head = b"".join(pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, system))
    keys = pickle.dumps(sorted(key for key, _ in storages), protocol=2)
    data = b"".join(struct.pack("<q", storage.count) + storage.bytes for _, storage in sorted(storages, key=lambda item: item[0]))
    return head + pickled + keys + data


def floats(count, start=0.5):
    return Storage("FloatStorage", [start + i / 4 for i in range(count)])


def state_dict():
    """Of nn.Sequential(first: Linear(2, 3), norm: BatchNorm1d(3), second: Linear(3, 1)), as Python names it."""
    state = collections.OrderedDict()
    state["first.weight"] = Tensor(floats(6), [3, 2])
    state["first.bias"] = Tensor(floats(3, -1), [3])
    state["norm.weight"] = Tensor(floats(3, 1), [3])
    state["norm.bias"] = Tensor(floats(3, 2), [3])
    state["norm.running_mean"] = Tensor(floats(3, 3), [3])
    state["norm.running_var"] = Tensor(floats(3, 4), [3])
    state["norm.num_batches_tracked"] = Tensor(Storage("LongStorage", [7]), [])
    state["second.weight"] = Tensor(floats(3, 5), [1, 3])
    state["second.bias"] = Tensor(floats(1, 6), [1])
    state._metadata = collections.OrderedDict([("", {"version": 1}), ("first", {"version": 1})])
    return state


PARAMETERS = ["first.weight", "first.bias", "norm.weight", "norm.bias", "second.weight", "second.bias"]


def adam(**more):
    state, model = {}, state_dict()
    for index, name in enumerate(PARAMETERS[:5]):  # the last one never had a gradient
        shape = model[name].shape
        count = model[name].storage.count
        state[index] = {"step": Tensor(floats(1, 4.0), []), "exp_avg": Tensor(floats(count, index), shape), "exp_avg_sq": Tensor(floats(count, index + 10), shape)}
    group = {"lr": 0.25, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.125, "amsgrad": False, "maximize": False, "foreach": None,
             "capturable": False, "differentiable": False, "fused": None, **more, "params": list(range(6))}
    return {"state": state, "param_groups": [group]}


def sgd():
    model = state_dict()
    state = {index: {"momentum_buffer": Tensor(floats(model[name].storage.count, index), model[name].shape)} for index, name in enumerate(PARAMETERS[:5])}
    group = {"lr": 0.25, "momentum": 0.75, "dampening": 0, "weight_decay": 0, "nesterov": True, "maximize": False, "foreach": None,
             "differentiable": False, "fused": None, "params": list(range(6))}
    return {"state": state, "param_groups": [group]}


def every_type():
    numbers = {"f": [0.5, -1.25, float("inf")], "d": [0.5, -1e300, 3.0], "e": [0.5, -2.0, 65504.0], "H": [0x3F80, 0xC000, 0x7F80], "q": [1, -2, 2**62],
               "i": [1, -2, 2**30], "h": [1, -2, 32767], "b": [1, -2, 127], "B": [1, 2, 255], "?": [True, False, True], "ff": [(1, 2), (3, 4), (5, 6)], "dd": [(1, 2), (3, 4), (5, 6)]}
    return {TYPES[kind][0]: Tensor(Storage(kind, numbers[TYPES[kind][1]]), [3]) for kind in TYPES}


def looks():
    whole, small = floats(24), floats(4)
    return {
        "whole": Tensor(whole, [4, 6]), "transposed": Tensor(whole, [6, 4], [1, 6]), "row": Tensor(whole, [6], [1], 6), "every second": Tensor(whole, [4, 3], [6, 2], 1),
        "alone": Tensor(floats(12), [3, 2], [2, 1], 4), "alone transposed": Tensor(floats(12), [4, 3], [1, 4]), "expanded": Tensor(small, [3, 4], [0, 1]),
        "scalar": Tensor(floats(1), []), "empty": Tensor(floats(0), [0, 4]), "parameter": Parameter(floats(2), [2]),
    }


def plain():
    deep = collections.defaultdict(list, {"a": [1, 2]})
    return {
        "none": None, "true": True, "false": False, "small": 7, "byte": 200, "short": 60000, "negative": -5, "long": 2**40, "huge": -(2**100), "float": 0.1, "nan": float("nan"),
        "infinite": float("inf"), "text": "gr\u00fc\u00df \U0001f600", "empty text": "", "bytes": b"\x00\xff\x80", "empty bytes": b"", "bytearray": bytearray(b"ab"), "tuple": (1, "two", 3.0, None),
        "pair": (1, 2), "empty tuple": (), "list": [1, [2, [3]]], "empty list": [], "dict": {"x": 1, 2: "y", (1, 2): 3}, "set": {5}, "ordered": collections.OrderedDict(a=1),
        "default": deep, "counter": collections.Counter("aab"), "size": torch.Size((2, 3)), "device": torch.device("cuda", 1), "cpu": torch.device("cpu"), "dtype": torch.float32, "many": list(range(2000)),
    }


PLAIN = {
    "none": None, "true": True, "false": False, "small": 7, "byte": 200, "short": 60000, "negative": -5, "long": 2**40, "huge": -(2**100), "float": 0.1, "nan": "NaN", "infinite": "Infinity",
    "text": "gr\u00fc\u00df \U0001f600", "empty text": "", "bytes": "AP+A", "empty bytes": "", "bytearray": "YWI=", "tuple": [1, "two", 3.0, None], "pair": [1, 2], "empty tuple": [], "list": [1, [2, [3]]],
    "empty list": [], "dict": {"x": 1, "2": "y", "(1, 2)": 3}, "set": [5], "ordered": {"a": 1}, "default": {"a": [1, 2]}, "counter": {"a": 2, "b": 1}, "size": [2, 3], "device": "cuda:1", "cpu": "cpu",
    "dtype": "torch.float32", "many": list(range(2000)),
}


def lightning():
    model = collections.OrderedDict(("model." + name, tensor) for name, tensor in state_dict().items())
    return {
        "epoch": 3, "global_step": 120, "pytorch-lightning_version": "2.5.0", "state_dict": model, "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 4}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": Tensor(floats(1), []), "best_model_path": "a.ckpt", "kth_value": [Tensor(floats(1), [])]}},
        "optimizer_states": [adam()], "lr_schedulers": [{"last_epoch": 3, "_last_lr": [0.25]}],
    }


def expected(value):
    tensors, prefix = {}, ""

    def walk(value, name):
        if isinstance(value, Tensor):
            tensors[name] = [TYPES[value.storage.kind][2], list(value.shape), value.row_major().hex().upper()]
        elif isinstance(value, dict):
            for key, item in value.items():
                walk(item, f"{name}/{key}" if name else str(key))
        elif isinstance(value, (list, tuple)):
            for i, item in enumerate(value):
                walk(item, f"{name}/{i}")
    walk(value, prefix)
    return tensors


def main(folder):
    wrapped = collections.OrderedDict(("module._orig_mod." + name, tensor) for name, tensor in state_dict().items())
    files = {
        "state_dict.pt": state_dict(), "types.pt": every_type(), "looks.pt": looks(), "plain.pt": plain(), "lightning.ckpt": lightning(), "wrapped.pth": wrapped,
        "adam.pt": adam(), "adamw.pt": adam(decoupled_weight_decay=True), "sgd.pt": sgd(), "fabric.ckpt": {"model": state_dict(), "optimizer": adam(), "step": 12},
        "tensor.pt": Tensor(floats(3), [3]),
    }
    legacy = {"legacy.pt": state_dict(), "legacy_looks.pt": looks(), "legacy_fabric.ckpt": {"model": state_dict(), "optimizer": sgd(), "step": 12}}
    for name, value in {**files, **legacy}.items():
        content = legacy_file(value) if name in legacy else zip_file(os.path.splitext(name)[0], value)
        with open(os.path.join(folder, name), "wb") as file:
            file.write(content)
        with open(os.path.join(folder, name + ".json"), "w") as file:
            json.dump({"tensors": expected(value), "plain": PLAIN if name == "plain.pt" else None}, file, indent=0)


main(sys.argv[1])
