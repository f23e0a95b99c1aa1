"""Mutations of GGUF files by their fields: counts, lengths, names, types, offsets."""

from __future__ import annotations

import struct
from functools import lru_cache
from random import Random
from typing import NamedTuple

from .mutate import EDGES, mutate_bytes, mutate_text


class Part(NamedTuple):
    """A piece of a file: `kind` is u32, u64, text or data; those of a record share `record`."""

    kind: str
    data: bytes
    record: int = -1


def mutate_parts(parts: list[Part], chance: Random) -> bytes:
    """Change a field or a record of a file; a text's length, which is before it, mostly follows."""
    if not parts:
        return b""
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(parts))
        part = parts[at]
        records = [i for i, other in enumerate(parts) if other.record == part.record >= 0]
        whole = [parts[i] for i in records]
        match chance.randrange(8) if records else 0:
            case 6:
                parts[records[0] : records[0]] = whole
            case 7:
                del parts[records[0] : records[-1] + 1]
            case _:
                parts[at] = part._replace(data=_changed(part, chance))
                length = parts[at - 1] if at and part.kind == "text" else None
                if length and length.kind in ("u64", "u32") and chance.random() < 0.8:
                    size = len(parts[at].data).to_bytes(len(length.data), "little")
                    parts[at - 1] = length._replace(data=size)
        if not parts:
            break
    return b"".join(part.data for part in parts)


def _changed(part: Part, chance: Random) -> bytes:
    if part.kind in ("u32", "u64"):
        size = len(part.data)
        old = int.from_bytes(part.data, "little")
        value = chance.choice(
            (chance.choice(EDGES), old + 1, old - 1, old * 2, chance.randrange(40))
        )
        return (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    if part.kind == "text":
        text = part.data.decode("utf-8", "surrogateescape")
        return mutate_text(text, chance).encode("utf-8", "surrogateescape")
    return mutate_bytes(part.data, chance)


_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


class _Cursor:
    """Cuts a file into parts."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.parts, self.record = data, 0, list[Part](), -1

    def take(self, kind: str, size: int) -> bytes:
        found = self.data[self.at : self.at + size]
        if len(found) < size:
            raise ValueError
        self.at += size
        self.parts.append(Part(kind, found, self.record))
        return found

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(f"u{8 * size}", size), "little")

    def text(self) -> bytes:
        return self.take("text", self.number(8))


@lru_cache(32)
def gguf_parts(data: bytes) -> tuple[Part, ...]:
    """Cut a GGUF file into its fields; what is damaged is one part of data."""
    cursor = _Cursor(data)
    try:
        cursor.take("data", 4)
        cursor.number(4)
        num_tensors, num_keys = cursor.number(8), cursor.number(8)
        for number in range(num_keys):
            cursor.record = number
            cursor.text()
            kind = cursor.number(4)
            _take_value(cursor, kind)
        for number in range(num_tensors):
            cursor.record = num_keys + number
            cursor.text()
            for _ in range(cursor.number(4)):
                cursor.number(8)
            cursor.number(4)
            cursor.number(8)
    except ValueError:
        pass
    return *cursor.parts, Part("data", data[cursor.at :])


def _take_value(cursor: _Cursor, kind: int) -> None:
    if kind == 8:
        cursor.text()
    elif kind == 9:
        inner, num = cursor.number(4), cursor.number(8)
        if inner == 8:
            for _ in range(min(num, 3)):
                cursor.text()
            start = cursor.at
            for _ in range(max(num - 3, 0)):
                start += 8 + struct.unpack_from("<Q", cursor.data.ljust(start + 8, b"\0"), start)[0]
                if start > len(cursor.data):
                    raise ValueError
            cursor.take("data", start - cursor.at)
        else:
            cursor.take("data", num * _SIZES.get(inner, 1 << 60))
    elif _SIZES.get(kind) in (4, 8) and kind != 6:
        cursor.number(_SIZES[kind])
    else:
        cursor.take("data", _SIZES.get(kind, 1 << 60))


def gguf_mutation(data: bytes, chance: Random) -> bytes:
    """Change a GGUF file by its fields, or as bytes."""
    if chance.random() < 0.15:
        return mutate_bytes(data, chance)
    parts = [*gguf_parts(data)]
    num_records = max(part.record for part in parts) + 1
    if num_records and chance.random() < 0.1:
        return _retyped(parts, chance.randrange(num_records), chance)
    return mutate_parts(parts, chance)


def _retyped(parts: list[Part], record: int, chance: Random) -> bytes:
    """Give a key a value of another type."""
    at = [i for i, part in enumerate(parts) if part.record == record][:3][-1]
    end = next((i for i in range(at, len(parts)) if parts[i].record != record), len(parts))
    text = struct.pack("<Q", 2) + b"ab"
    values = [b"\7\0\0\0\1", b"\6\0\0\0\0\0\xc0\x7f", b"\x08\0\0\0" + text]
    values.append(b"\x0b\0\0\0" + b"\xff" * 8)
    arrays = [(5, 4, b"\1\0\0\0"), (8, 10, text), (6, 4, b"\0\0\x80\x3f")]
    for kind, size, item in arrays:
        num = chance.choice((0, 1, 3))
        values.append(struct.pack("<IIQ", 9, kind, num) + (item * num)[: num * size])
    parts[at:end] = [Part("data", chance.choice(values))]
    return b"".join(part.data for part in parts)
