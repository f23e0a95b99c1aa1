"""Float tensors as bytes: safetensors in and out, and one dtype into another.

A matrix that already has the wanted dtype is passed on unchanged, bit for bit. bf16 never
becomes numpy's business: it is two bytes of a float32, rounded to nearest even.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors

from ..adapter import Matrix, row_bytes
from ..errors import FormatError, OptionError
from .untrusted import json_object, read_bytes, shown

MAX_FILE_BYTES = 1 << 30
_MAX_HEADER_BYTES = 100 << 20  # safetensors' own limit
_ITEM_BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2}
_ITEM_BYTES |= {"U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8}
FLOATS = {"f32": "F32", "f16": "F16", "bf16": "BF16"}


class Raw(NamedTuple):
    """A tensor as its file has it."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


def read_safetensors(source: Path | bytes, name: str) -> dict[str, Raw]:
    """All tensors of a safetensors file; FormatError if it is malformed or too large."""
    data = source if isinstance(source, bytes) else read_bytes(source, MAX_FILE_BYTES)
    try:
        entries = safetensors.deserialize(data)
    except (safetensors.SafetensorError, ValueError) as error:
        raise FormatError(f"{name} is not valid safetensors: {shown(str(error))}") from error
    return {key: Raw(e["dtype"], tuple(e["shape"]), e["data"]) for key, e in entries}


class Slot(NamedTuple):
    """Where a safetensors file keeps a tensor: `start` counts from the file's begin."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    num_bytes: int

    @property
    def row_bytes(self) -> int:
        return self.num_bytes // max(self.shape[0], 1) if self.shape else self.num_bytes


def safetensors_index(path: Path) -> dict[str, Slot]:
    """Where the tensors of a file of any size lie; only its header is read.

    FormatError if the header is malformed or a tensor leaves the file.
    """
    try:
        if not path.is_file():
            raise FormatError(f"{path} is not a regular file")
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
                raise FormatError(f"{path} is not safetensors: its header has {length} bytes")
            header = json_object(file.read(length), f"the header of {path.name}")
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}") from error
    header.pop("__metadata__", None)
    return {name: _slot(path, name, entry, 8 + length, size) for name, entry in header.items()}


def _slot(path: Path, name: str, entry: Any, begin: int, size: int) -> Slot:
    """One entry of a header, checked against the size of the file."""
    try:
        dtype, shape = entry["dtype"], tuple(entry["shape"])
        start, end = entry["data_offsets"]
        fits = all(type(n) is int and n >= 0 for n in (*shape, start, end))
        fits = fits and end - start == math.prod(shape) * _ITEM_BYTES[dtype]
    except (KeyError, TypeError, ValueError):
        fits = False
    if not fits or begin + end > size:
        raise FormatError(
            f"{path}: the tensor {shown(name)} is {shown(entry, 120)}, and the file has "
            f"{size} bytes, {begin} of them before the data"
        )
    return Slot(dtype, shape, begin + start, end - start)


def matrix(name: str, raw: Raw) -> Matrix:
    """A raw tensor as a float matrix; FormatError if it is something else."""
    dtype = next((ours for ours, theirs in FLOATS.items() if theirs == raw.dtype), None)
    if dtype is None or len(raw.shape) != 2 or 0 in raw.shape:
        raise FormatError(
            f"the tensor {shown(name)} is {raw.dtype} of shape {raw.shape}, "
            "not a matrix of F32, F16 or BF16"
        )
    rows, columns = raw.shape
    data = np.frombuffer(raw.data, np.uint8)
    return Matrix(dtype, (rows, columns), data.reshape(rows, row_bytes(dtype, columns)))


def write_safetensors(path: Path, tensors: Mapping[str, Matrix], metadata: dict[str, str]) -> None:
    """Write float matrices, sorted by name; the same tensors give the same bytes."""
    header: dict[str, object] = {"__metadata__": metadata}
    at = 0
    for name, m in sorted(tensors.items()):
        offsets = [at, at + m.nbytes]
        header[name] = {
            "dtype": FLOATS[m.dtype],
            "shape": list(m.shape),
            "data_offsets": offsets,
        }
        at += m.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, m in sorted(tensors.items()):
            file.write(np.ascontiguousarray(m.data).data)


def float_matrix(array: np.ndarray, dtype: str) -> Matrix:
    """A float32 array as a float matrix; OptionError where the dtype's range is too small."""
    if dtype == "bf16":
        bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
        rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")
        made = Matrix("bf16", (array.shape[0], array.shape[1]), rounded.view(np.uint8))
    else:
        with np.errstate(over="ignore"):
            made = Matrix.from_array(array.astype({"f32": "<f4", "f16": "<f2"}[dtype]))
    if not made.is_finite() and np.isfinite(array).all():
        raise OptionError(
            f"a weight of {np.abs(array).max():.4g} is too large for {dtype}",
            hint="Write f32 instead.",
        )
    return made


def float_recoded(m: Matrix, dtype: str | None) -> Matrix:
    """A matrix in a float dtype; None keeps floats as they are and decodes 4 and 8 bits."""
    wanted = dtype or (m.dtype if m.dtype in FLOATS else "f32")
    return m if m.dtype == wanted else float_matrix(m.dense(), wanted)


def check_float_dtype(dtype: str | None, layout: str) -> None:
    """OptionError if a layout of plain floats cannot hold `dtype`."""
    if dtype is not None and dtype not in FLOATS:
        raise OptionError(
            f"{layout} holds {', '.join(FLOATS)}, not {dtype}", hint="GGUF can hold q4_0."
        )
