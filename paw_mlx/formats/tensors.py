"""Float tensors as bytes: safetensors in and out, and one dtype into another.

A matrix that already has the wanted dtype is passed on unchanged, bit for bit. bf16 never
becomes numpy's business: it is two bytes of a float32, rounded to nearest even. A writer
tells the header first and makes each tensor when its turn comes: one at a time in memory.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np

from ..adapter import Matrix, row_bytes
from ..errors import FormatError, NotFound, OptionError
from .untrusted import MAX_TEXT_BYTES, json_object, mapped, shown

MAX_FILE_BYTES = 1 << 30
_MAX_HEADER_BYTES = 100 << 20  # safetensors' own limit
_ITEM_BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2}
_ITEM_BYTES |= {"U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8}
FLOATS = {"f32": "F32", "f16": "F16", "bf16": "BF16"}
_WRITTEN = {**FLOATS, "u32": "U32"}


class Raw(NamedTuple):
    """A tensor as its file has it."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview


def read_safetensors(source: Path | memoryview, name: str) -> dict[str, Raw]:
    """All tensors of a safetensors file, as views; FormatError if it is malformed or too large."""
    try:
        with _opened(source) if isinstance(source, Path) else io.BytesIO(source) as file:
            slots = _whole(file, name)
            view = mapped(file) if isinstance(source, Path) else source
    except FileNotFoundError as error:
        raise NotFound(f"no such file: {source}") from error
    except OSError as error:
        raise FormatError(f"cannot read {source}: {error.strerror or error}") from error
    return {n: Raw(s.dtype, s.shape, view[s.start :][: s.num_bytes]) for n, s in slots.items()}


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
        with _opened(path) as file:
            return _index(file, str(path), _MAX_HEADER_BYTES)[1]
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}") from error


def _opened(path: Path) -> BinaryIO:
    if path.exists() and not path.is_file():
        raise FormatError(f"{path} is not a regular file")
    return path.open("rb")


def _index(file: BinaryIO, name: str, most: int) -> tuple[int, dict[str, Slot]]:
    """Where an open file's data begins, and its tensors; the header has at most `most` bytes."""
    size = file.seek(0, 2)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(most, size - 8):
        raise FormatError(f"{name} is not safetensors: its header has {length} bytes")
    header = json_object(file.read(length), f"the header of {name}")
    header.pop("__metadata__", None)
    begin = 8 + length
    return begin, {key: _slot(name, key, entry, begin, size) for key, entry in header.items()}


def _whole(file: BinaryIO, name: str) -> dict[str, Slot]:
    """The tensors of a file small enough to read, which fill it without a gap."""
    size = file.seek(0, 2)
    if size > MAX_FILE_BYTES:
        raise FormatError(f"{name} has {size} bytes (limit {MAX_FILE_BYTES})")
    end, slots = _index(file, name, MAX_TEXT_BYTES)
    for slot in sorted(slots.values(), key=lambda slot: (slot.start, slot.num_bytes)):
        if slot.start != end:
            raise FormatError(f"{name} has a tensor at byte {slot.start}, and {end} was expected")
        end += slot.num_bytes
    if end != size:
        raise FormatError(f"{name} has {size} bytes, and its tensors end at {end}")
    return slots


def _slot(file: str, name: str, entry: Any, begin: int, size: int) -> Slot:
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
            f"{file}: the tensor {shown(name)} is {shown(entry, 120)}, and the file has "
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


class Stored(Protocol):
    """What a writer needs of a tensor; `data` is asked for once, when it is written."""

    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def data(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Later:
    """A tensor whose bytes are made when they are written."""

    dtype: str
    shape: tuple[int, int]
    nbytes: int
    make: Callable[[], np.ndarray]

    @classmethod
    def matrix(cls, dtype: str, shape: tuple[int, int], make: Callable[[], Matrix]) -> Later:
        """A matrix to come."""
        num_bytes = shape[0] * row_bytes(dtype, shape[1])
        return cls(dtype, shape, num_bytes, lambda: make().data)

    @property
    def data(self) -> np.ndarray:
        return self.make()


def write_safetensors(
    path: Path, tensors: Mapping[str, Stored], metadata: Mapping[str, str]
) -> None:
    """Write tensors sorted by name, each made in its turn; the same ones give the same bytes."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    at = 0
    for name, m in sorted(tensors.items()):
        offsets = [at, at + m.nbytes]
        header[name] = {
            "dtype": _WRITTEN[m.dtype],
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
