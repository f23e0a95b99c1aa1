"""Float tensors as bytes: safetensors in and out, and one dtype into another.

A matrix that already has the wanted dtype is passed on unchanged, bit for bit. bf16 never
becomes numpy's business: it is two bytes of a float32, rounded to nearest even. A writer
tells the header first and makes each tensor when its turn comes: one at a time in memory.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np

from ..adapter import Matrix, row_bytes
from ..errors import FormatError, OptionError
from .untrusted import (
    MAX_TEXT_BYTES,
    json_object,
    map_file,
    open_file,
    reading,
    refuse_stand_in,
    shown,
)

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
    """Read a safetensors file's tensors, as views; FormatError if malformed or too large."""
    if isinstance(source, Path):
        with reading(source), open_file(source) as file:
            slots, view = _read_whole_header(file, name), map_file(file)
    else:
        refuse_stand_in(bytes(source[:512]), name)
        slots, view = _read_whole_header(io.BytesIO(source), name), source
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
    """Return where the tensors of a file of any size lie; only its header is read.

    FormatError if the header is malformed or a tensor leaves the file.
    """
    with reading(path), open_file(path) as file:
        return _read_header(file, str(path), _MAX_HEADER_BYTES)[1]


def _read_header(file: BinaryIO, name: str, most: int) -> tuple[int, dict[str, Slot]]:
    """Read an open file's header, of at most `most` bytes: where its data begins, its tensors."""
    size = file.seek(0, 2)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(most, size - 8):
        raise FormatError(f"{name} is not safetensors: its header has {length} bytes")
    header = json_object(file.read(length), f"the header of {name}")
    header.pop("__metadata__", None)
    begin = 8 + length
    return begin, {key: _check_slot(name, key, entry, begin, size) for key, entry in header.items()}


def _read_whole_header(file: BinaryIO, name: str) -> dict[str, Slot]:
    """Read the header of a file small enough to read, which its tensors fill without a gap."""
    size = file.seek(0, 2)
    if size > MAX_FILE_BYTES:
        raise FormatError(f"{name} has {size} bytes (limit {MAX_FILE_BYTES})")
    end, slots = _read_header(file, name, MAX_TEXT_BYTES)
    for slot in sorted(slots.values(), key=lambda slot: (slot.start, slot.num_bytes)):
        if slot.start != end:
            raise FormatError(f"{name} has a tensor at byte {slot.start}, and {end} was expected")
        end += slot.num_bytes
    if end != size:
        raise FormatError(f"{name} has {size} bytes, and its tensors end at {end}")
    return slots


def _check_slot(file: str, name: str, entry: Any, begin: int, size: int) -> Slot:
    """Return one entry of a header, checked against the size of the file."""
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
    """Return a raw tensor as a float matrix; FormatError if it is something else."""
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
    def shape(self) -> tuple[int, ...]: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def data(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Later:
    """A tensor whose bytes are made when they are written."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    make: Callable[[], np.ndarray]

    @classmethod
    def matrix(cls, dtype: str, shape: tuple[int, int], make: Callable[[], Matrix]) -> Later:
        """Return a matrix to come."""
        num_bytes = shape[0] * row_bytes(dtype, shape[1])
        return cls(dtype, shape, num_bytes, lambda: make().data)

    @property
    def data(self) -> np.ndarray:
        return self.make()


class SafetensorsWriter:
    """Writes a safetensors file of any size, tensor by tensor. To be used in `with`.

    The header stands before the tensors and is written after them: `room` bytes, a multiple of
    8, are left for it. It may end in spaces. A file given up by an error has none.
    """

    def __init__(self, path: Path, metadata: Mapping[str, str], room: int) -> None:
        self._slots: dict[str, Slot] = {}
        self._metadata, self._room, self._at = metadata, room, 0
        self._file = path.open("wb")
        self._file.seek(8 + room)

    def add(self, name: str, dtype: str, shape: Sequence[int], data: memoryview) -> None:
        """Write a tensor's bytes; `dtype` is safetensors' name for it."""
        self._slots[name] = Slot(dtype, tuple(shape), self._at, data.nbytes)
        self._file.write(data)
        self._at += data.nbytes

    def __enter__(self) -> SafetensorsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        with self._file:
            if kind is None:
                text = _header_text(self._slots, self._metadata).ljust(self._room)
                assert len(text) == self._room
                self._file.seek(0)
                self._file.write(self._room.to_bytes(8, "little") + text)


def write_safetensors(
    path: Path, tensors: Mapping[str, Stored], metadata: Mapping[str, str]
) -> None:
    """Write tensors sorted by name, each made in its turn; the same ones give the same bytes."""
    slots, at = {}, 0
    for name, m in sorted(tensors.items()):
        slots[name] = Slot(_WRITTEN[m.dtype], m.shape, at, m.nbytes)
        at += m.nbytes
    with SafetensorsWriter(path, metadata, len(_header_text(slots, metadata))) as file:
        for name, slot in slots.items():
            file.add(name, slot.dtype, slot.shape, np.ascontiguousarray(tensors[name].data).data)


def _header_text(slots: Mapping[str, Slot], metadata: Mapping[str, str]) -> bytes:
    """Return a header as JSON, whose slots count from the end of it; spaces fill it up to 8."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    for name, slot in slots.items():
        offsets = [slot.start, slot.start + slot.num_bytes]
        header[name] = {"dtype": slot.dtype, "shape": slot.shape, "data_offsets": offsets}
    text = json.dumps(header, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)


def float_matrix(array: np.ndarray, dtype: str) -> Matrix:
    """Return a float32 array as a float matrix; OptionError where a dtype's range is too small."""
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


def recode_float(m: Matrix, dtype: str | None) -> Matrix:
    """Return a matrix in a float dtype; None keeps floats, and decodes 4 and 8 bits."""
    wanted = dtype or (m.dtype if m.dtype in FLOATS else "f32")
    return m if m.dtype == wanted else float_matrix(m.dense(), wanted)
