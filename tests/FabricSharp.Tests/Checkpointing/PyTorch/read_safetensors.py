"""An independent reader of .safetensors files, after the format's own rules: python3 read_safetensors.py FILE

Prints {name: [dtype, shape, bytes in hexadecimal]} and fails where the file breaks a rule.
"""
import json
import struct
import sys

SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


def unique(pairs):
    names = [name for name, _ in pairs]
    assert len(names) == len(set(names)), "a name stands twice"
    return dict(pairs)


with open(sys.argv[1], "rb") as file:
    content = file.read()
(length,) = struct.unpack("<Q", content[:8])
assert length <= 100_000_000 and 8 + length <= len(content), "the header is longer than the file"
header = content[8:8 + length]
assert header[:1] == b"{" and header.rstrip(b" ")[-1:] == b"}", "the header begins with { and is filled up with spaces"
assert (8 + length) % 8 == 0, "the data begin on a multiple of 8"
tensors = json.loads(header.decode("utf-8"), object_pairs_hook=unique)
metadata = tensors.pop("__metadata__", {})
assert all(isinstance(text, str) for text in metadata.values()), "metadata are texts"
data, position = content[8 + length:], 0
for name, tensor in sorted(tensors.items(), key=lambda item: item[1]["data_offsets"]):
    assert set(tensor) == {"dtype", "shape", "data_offsets"}, "a tensor has three properties"
    begin, end = tensor["data_offsets"]
    count = 1
    for size in tensor["shape"]:
        count *= size
    assert begin == position, "there is a hole or an overlap"
    assert end - begin == count * SIZES[tensor["dtype"]], "the size is wrong"
    assert (8 + length + begin) % SIZES[tensor["dtype"]] == 0, "a tensor is not aligned"
    position = end
assert position == len(data), "there are bytes after the last tensor"
print(json.dumps({name: [tensor["dtype"], tensor["shape"], data[slice(*tensor["data_offsets"])].hex().upper()] for name, tensor in tensors.items()}))
