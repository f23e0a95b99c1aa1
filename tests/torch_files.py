"""Files as `torch.save` lays them out, made without torch; the golden ones are torch's own."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

STORAGES = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "uint16": "BFloat16Storage",  # numpy has none of its own
    "float64": "DoubleStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
    "complex64": "ComplexFloatStorage",
}


class Opcodes(NamedTuple):
    """A value that is put into a pickle as it is."""

    data: bytes


def torch_save(path: Path, value: Any) -> Path:
    """Write a value of plain values and arrays as torch.save would."""
    storages: list[bytes] = []
    data = b"\x80\x02" + _opcodes(value, storages) + b"."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), data)
        archive.writestr(zipfile.ZipInfo("archive/byteorder"), b"little")
        for i, storage in enumerate(storages):
            archive.writestr(zipfile.ZipInfo(f"archive/data/{i}"), storage)
    return path


def write_index(folder: Path, weight_map: dict[str, Any]) -> Path:
    """The index of a checkpoint in shards."""
    path = folder / "pytorch_model.bin.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return path


def _opcodes(value: Any, storages: list[bytes]) -> bytes:
    match value:
        case Opcodes(data):
            return data
        case np.ndarray():
            return _tensor(value, storages)
        case dict():
            items = b"".join(_opcodes(x, storages) for item in value.items() for x in item)
            return b"}(" + items + b"u"
        case list():
            return b"](" + b"".join(_opcodes(x, storages) for x in value) + b"e"
        case tuple():
            return b"(" + b"".join(_opcodes(x, storages) for x in value) + b"t"
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            return b"\x8a\x08" + value.to_bytes(8, "little", signed=True)
        case float():
            return b"G" + struct.pack(">d", value)
    raise TypeError(value)


def _tensor(array: np.ndarray, storages: list[bytes]) -> bytes:
    storage = f"ctorch\n{STORAGES[array.dtype.name]}\n".encode()
    strides = tuple(s // array.itemsize for s in np.ascontiguousarray(array).strides)
    pid = ("storage", Opcodes(storage), str(len(storages)), "cpu", array.size)
    storages.append(array.tobytes())
    hooks = Opcodes(b"ccollections\nOrderedDict\n)R")
    store = Opcodes(_opcodes(pid, storages) + b"Q")
    args = (store, 0, tuple(array.shape), strides, False, hooks)
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + _opcodes(args, storages) + b"R"
