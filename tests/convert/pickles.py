"""Pickles put together from opcodes, byte by byte, in archives as torch lays them out."""

from __future__ import annotations

import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from paw_mlx.convert.torch_pickle import open_state_dict
from paw_mlx.errors import FormatError

GOLDEN = Path(__file__).parents[1] / "golden" / "torch"


# Opcodes.


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def group(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def numbers(*values: int) -> bytes:
    return group(*map(number, values))


ORDERED = name("collections", "OrderedDict") + b")R"
REBUILD = name("torch._utils", "_rebuild_tensor_v2")
FLOAT = name("torch", "FloatStorage")


def storage(key: str = "0", count: int = 6, kind: bytes = FLOAT) -> bytes:
    return group(text("storage"), kind, text(key), text("cpu"), number(count)) + b"Q"


def tensor(
    store: bytes = storage(),
    offset: int = 0,
    shape: bytes = numbers(2, 3),
    strides: bytes = numbers(3, 1),
    rest: bytes = b"\x89" + ORDERED,
) -> bytes:
    return REBUILD + group(store, number(offset), shape, strides, rest) + b"R"


def state(**values: bytes) -> bytes:
    items = b"".join(text(key) + value for key, value in values.items())
    return b"\x80\x02" + ORDERED + b"(" + items + b"u."


VALUES = np.arange(6, dtype="<f4")
GOOD = state(a=tensor(), b=tensor(offset=1, shape=numbers(2), strides=numbers(3)))


# Archives.


def save(path: Path, data: bytes = GOOD, **members: bytes) -> Path:
    """An archive as torch lays it out, with the storage `data/0` of six floats."""
    found = {"data.pkl": data, "byteorder": b"little", "data/0": VALUES.tobytes()} | members
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in found.items():
            archive.writestr(zipfile.ZipInfo(f"archive/{member}"), content)
    return path


def read(path: Path) -> dict[str, np.ndarray]:
    with open_state_dict(path) as found:
        return {tensor_name: found.read(tensor_name) for tensor_name in found.tensors}


def refusal(path: Path) -> str:
    """What the one sentence says about a file that must be refused."""
    with pytest.raises(FormatError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < 600
    return message.removeprefix(f"{path}: ")


def peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
