"""Float tensors as bytes: safetensors in and out, and one dtype into another.

A matrix that already has the wanted dtype is passed on unchanged, bit for bit. bf16 never
becomes numpy's business: it is two bytes of a float32, rounded to nearest even.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors

from ..adapter import Matrix, row_bytes
from ..errors import FormatError, OptionError
from .untrusted import read_bytes, shown

MAX_FILE_BYTES = 1 << 30
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
