"""GGUF, as untrusted bytes: metadata and tensors, adapters and bases alike.

Every count, length, size and offset is checked against the bytes that are there before
anything is allocated, so a file that lies fails at once with one sentence. Tensor data
stays in the file: each `data` is a read-only view of the mapping.

Shapes are rows first, numpy's order; the file itself stores dimensions reversed.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FormatError
from .untrusted import open_file, reading, refuse_stand_in, shown

# GGML type -> (name, elements in a block, bytes in a block); blocks run along a row.
TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    30: ("BF16", 1, 2),
}
_FOREIGN = {
    9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS",
    19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16",
    26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip
_NUMBERS = {
    0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "|b1",
    10: "<u8", 11: "<i8", 12: "<f8",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_MAX_TENSORS = _MAX_KEYS = 1 << 16
_MAX_STRINGS = 1 << 21  # in all arrays together; a vocabulary with merges has under 2**20
_MAX_NAME = 1 << 10
_MAX_TEXT = 1 << 24  # a chat template or a model card, not more


@dataclass(frozen=True, eq=False)
class GGUFTensor:
    """One tensor as stored; `shape` is rows first, `data` the bytes, flat and read-only."""

    name: str
    type_name: str
    shape: tuple[int, ...]
    data: np.ndarray = field(repr=False)

    def dense(self) -> np.ndarray:
        """Decode to float32, by the reference rules of the `gguf` package."""
        import gguf  # takes a while, and only K-quants and their like come here

        kind = gguf.GGMLQuantizationType[self.type_name]
        return gguf.quants.dequantize(self.data, kind).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class GGUFFile:
    """What a GGUF file holds. Number arrays are numpy's, string arrays `list[str]`."""

    metadata: Mapping[str, Any] = field(repr=False)  # a vocabulary is a part of it
    tensors: Mapping[str, GGUFTensor] = field(repr=False)


def read_gguf(source: str | os.PathLike[str] | bytes | memoryview) -> GGUFFile:
    """Read a GGUF file, given as a path (mapped) or as bytes.

    FormatError for anything malformed or of an unknown type; NotFound for no such file.
    """
    if isinstance(source, bytes | memoryview):
        reader = _Reader(np.frombuffer(source, np.uint8))
    else:
        reader = _Reader(_map_file(source))
    if reader.take(4) != b"GGUF":
        refuse_stand_in(bytes(reader.view[:512]), "the GGUF file")
        raise FormatError("not a GGUF file: it does not begin with the magic GGUF")
    version = reader.read_number("<I")
    if version not in (2, 3):
        raise FormatError(
            f"GGUF version {version} is not supported (2 and 3 are)",
            hint="The file may be big-endian." if version > 0xFFFF else None,
        )
    num_tensors = reader.read_count("tensors", 32, _MAX_TENSORS)
    num_keys = reader.read_count("metadata keys", 13, _MAX_KEYS)
    metadata = _read_metadata(reader, num_keys)
    entries = [_read_entry(reader) for _ in range(num_tensors)]
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20 or alignment % 8:
        raise FormatError(f"the GGUF alignment {alignment!r} is not a multiple of 8 up to 1 MiB")
    return GGUFFile(metadata, _cut(reader, entries, alignment))


def _map_file(path: str | os.PathLike[str]) -> np.ndarray:
    """View a file's bytes; NotFound, or FormatError if it is empty or cannot be read."""
    path = Path(path)
    with reading(path), open_file(path) as file:
        if not file.seek(0, 2):
            raise FormatError(f"{path} is empty, not a GGUF file")
        return np.memmap(file, np.uint8, mode="r").view(np.ndarray)


class _Reader:
    """A cursor that never passes the end."""

    def __init__(self, data: np.ndarray) -> None:
        self.data, self.view, self.at = data, data.data, 0
        self.strings_left = _MAX_STRINGS

    def take(self, num: int) -> memoryview:
        """Return the next bytes; FormatError if there are fewer."""
        if num > len(self.view) - self.at:
            raise FormatError(
                f"the GGUF file ends too early: {num} bytes are wanted at byte {self.at}, "
                f"and {len(self.view) - self.at} are left"
            )
        self.at += num
        return self.view[self.at - num : self.at]

    def read_number(self, code: str) -> int:
        """Read a number, given as `struct` names its type."""
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def read_count(self, what: str, least_bytes: int, most: int) -> int:
        """Read a count of things that take at least `least_bytes` each; refused if absurd."""
        num, left = self.read_number("<Q"), len(self.view) - self.at
        if num > most or num * least_bytes > left:
            raise FormatError(
                f"the GGUF file claims {num} {what}, and only {left} bytes follow (limit {most})"
            )
        return num

    def read_text(self, most: int = _MAX_TEXT) -> str:
        """Read a string of at most `most` bytes."""
        num = self.read_number("<Q")
        if num > most:
            raise FormatError(f"the GGUF file claims a string of {num} bytes (limit {most})")
        try:
            return str(self.take(num), "utf-8")
        except UnicodeDecodeError as error:
            raise FormatError(f"a GGUF string before byte {self.at} is not UTF-8") from error

    def read_texts(self, num: int) -> list[str]:
        """Read `num` strings, quickly: a vocabulary has 150,000."""
        self.strings_left -= num
        if self.strings_left < 0:
            raise FormatError(f"the GGUF file claims more than {_MAX_STRINGS} strings")
        view, at, size, found = self.view, self.at, len(self.view), []
        unpack = struct.Struct("<Q").unpack_from
        try:
            for _ in range(num):
                end = at + 8 + unpack(view, at)[0]
                if end > size:
                    raise FormatError(f"a GGUF string at byte {at} passes the file's end")
                found.append(str(view[at + 8 : end], "utf-8"))
                at = end
        except (struct.error, UnicodeDecodeError) as error:
            raise FormatError(f"a GGUF string at byte {at} is cut short or not UTF-8") from error
        self.at = at
        return found


def _read_metadata(reader: _Reader, num_keys: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for _ in range(num_keys):
        key = reader.read_text(_MAX_NAME)
        if key in metadata:
            raise FormatError(f"the GGUF file has the key {shown(key)} twice")
        metadata[key] = _read_value(reader, reader.read_number("<I"), key)
    return metadata


def _read_value(reader: _Reader, kind: int, key: str) -> Any:
    """Read a key's value, of a type that GGUF numbers so: a text, a number, an array of either."""
    if kind == _STRING:
        return reader.read_text()
    if kind in _NUMBERS:
        dtype = np.dtype(_NUMBERS[kind])
        return np.frombuffer(reader.take(dtype.itemsize), dtype)[0].item()
    if kind != _ARRAY:
        raise FormatError(f"the GGUF key {shown(key)} has the unknown type {kind}")
    kind = reader.read_number("<I")
    if kind == _STRING:
        return reader.read_texts(reader.read_count(f"strings in {shown(key)}", 8, _MAX_STRINGS))
    if kind not in _NUMBERS:
        raise FormatError(
            f"the GGUF key {shown(key)} is an array of type {kind}, nested or unknown"
        )
    dtype = np.dtype(_NUMBERS[kind])
    num = reader.read_count(f"numbers in {shown(key)}", dtype.itemsize, 1 << 32)
    return np.frombuffer(reader.take(num * dtype.itemsize), dtype)


@dataclass(frozen=True)
class _Entry:
    """A tensor as the header describes it; `offset` counts from the data's begin."""

    name: str
    type_name: str
    shape: tuple[int, ...]
    offset: int
    num_bytes: int


def _read_entry(reader: _Reader) -> _Entry:
    """Read the description of a tensor; FormatError for types and shapes that are unknown."""
    name = reader.read_text(_MAX_NAME)
    num_dims = reader.read_number("<I")
    if not 1 <= num_dims <= 4:
        raise FormatError(
            f"the GGUF tensor {shown(name)} has {num_dims} dimensions (1 to 4 are allowed)"
        )
    dims = struct.unpack(f"<{num_dims}Q", reader.take(8 * num_dims))
    kind, offset = reader.read_number("<I"), reader.read_number("<Q")
    if kind not in TYPES:
        raise FormatError(
            f"the GGUF tensor {shown(name)} is {_FOREIGN.get(kind, f'type {kind}')}, "
            "which is not supported",
            hint=f"Supported: {', '.join(t[0] for t in TYPES.values())}.",
        )
    type_name, elements, size = TYPES[kind]
    if 0 in dims or dims[0] % elements:
        raise FormatError(
            f"the GGUF tensor {shown(name)} is {dims}, and {type_name} stores blocks of {elements}"
        )
    num_bytes = math.prod(dims) // elements * size
    return _Entry(name, type_name, tuple(reversed(dims)), offset, num_bytes)


def _cut(reader: _Reader, entries: list[_Entry], alignment: int) -> dict[str, GGUFTensor]:
    """Cut the data; every tensor must be aligned, inside the file, and apart from others."""
    begin = -(-reader.at // alignment) * alignment
    size, free = len(reader.view) - begin, 0
    tensors: dict[str, GGUFTensor] = {}
    for entry in sorted(entries, key=lambda entry: entry.offset):
        end = entry.offset + entry.num_bytes
        if entry.name in tensors:
            raise FormatError(f"the GGUF file has the tensor {shown(entry.name)} twice")
        if entry.offset % alignment:
            raise FormatError(
                f"the GGUF tensor {shown(entry.name)} begins at {entry.offset}, "
                f"which is no multiple of {alignment}"
            )
        if end > size:
            raise FormatError(
                f"the GGUF tensor {shown(entry.name)} ends at byte {end} of {max(size, 0)}"
            )
        if entry.offset < free:
            raise FormatError(f"the GGUF tensor {shown(entry.name)} overlaps the one before it")
        data = reader.data[begin + entry.offset : begin + end]
        tensors[entry.name] = GGUFTensor(entry.name, entry.type_name, entry.shape, data)
        free = end
    return {entry.name: tensors[entry.name] for entry in entries}
