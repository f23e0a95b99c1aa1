"""Thrift's compact protocol, as far as it takes to find a few fields in what Parquet writes in it.

It is stricter than pyarrow's own reader: what the two could understand in two ways is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

BOOL, I32, I64 = 1, 5, 6
_TRUE, _FALSE, _BYTE, _I16, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 4, *range(7, 13)
_WIDTHS = {_TRUE: 1, _FALSE: 1, _BYTE: 1, _DOUBLE: 8}  # bytes of an element
_MAX_VARINT_BYTES, _MAX_DEPTH = 10, 64


@dataclass(frozen=True)
class ListOf:
    """A list of structs that is wanted: what is `made` of the fields of each."""

    shape: Mapping[int, Any]
    made: Callable[[dict[int, Any]], Any]


class Compact:
    """Bytes that begin with a struct; `at` is where it ends when it has been read.

    IndexError where they end first, ValueError for what is no struct.
    """

    def __init__(self, data: bytes) -> None:
        self._data, self.at = data, 0

    def read(self, shape: Mapping[int, Any]) -> dict[int, Any]:
        """Return the fields that a shape names, by their numbers, and skip all others.

        A field's shape is BOOL, I32 or I64, that of a struct, or a `ListOf` structs.
        """
        found: dict[int, Any] = {}
        for number, kind in self._fields():
            wanted = shape.get(number)
            if wanted is None:
                self._skip(kind)
            elif number in found:
                raise ValueError(f"a field {number} stands there twice")
            else:
                found[number] = self._value(wanted, kind)
        return found

    def _value(self, wanted: Any, kind: int) -> Any:
        if isinstance(wanted, ListOf):
            if kind == _LIST:
                size, inner = self._list_head()
                if inner == _STRUCT or not size:
                    return [wanted.made(self.read(wanted.shape)) for _ in range(size)]
        elif not isinstance(wanted, int):
            if kind == _STRUCT:
                return self.read(wanted)
        elif wanted == BOOL:
            if kind in (_TRUE, _FALSE):
                return kind == _TRUE
        elif kind == wanted:
            return self._number(32 if wanted == I32 else 64)
        raise ValueError(f"a field is of kind {kind}")

    def _fields(self) -> Iterator[tuple[int, int]]:
        """Give the number and the kind of each field; its value is to be taken meanwhile."""
        number = 0
        while kind := (head := self._byte()) & 15:
            number = number + (head >> 4) if head >> 4 else self._number(16)
            if number >= 1 << 15:
                raise ValueError(f"a field has the number {number}")
            yield number, kind

    def _skip(self, kind: int, depth: int = 0) -> None:
        if depth > _MAX_DEPTH:
            raise ValueError(f"more than {_MAX_DEPTH} structs stand in each other")
        if kind in (_BYTE, _DOUBLE):
            self.at += _WIDTHS[kind]
        elif kind in (_I16, I32, I64):
            self._varint()
        elif kind == _BINARY:
            size = self._size()
            self.at += size
        elif kind in (_LIST, _SET):
            self._skip_all(*self._list_head(), depth)
        elif kind == _MAP:
            if size := self._size():
                kinds = self._byte()
                for _ in range(size):
                    self._skip_all(1, kinds >> 4, depth)
                    self._skip_all(1, kinds & 15, depth)
        elif kind == _STRUCT:
            for _, inner in self._fields():
                self._skip(inner, depth + 1)
        elif kind not in (_TRUE, _FALSE):
            raise ValueError(f"nothing is of kind {kind}")

    def _skip_all(self, size: int, kind: int, depth: int) -> None:
        """Skip elements, each of a byte or more."""
        if kind in _WIDTHS:
            self.at += size * _WIDTHS[kind]
        else:
            for _ in range(size):
                self._skip(kind, depth + 1)

    def _list_head(self) -> tuple[int, int]:
        head = self._byte()
        return (head >> 4 if head >> 4 < 15 else self._size()), head & 15

    def _size(self) -> int:
        size = self._varint()
        if size >= 1 << 31:
            raise ValueError(f"a size is {size:,}")
        return size

    def _number(self, bits: int) -> int:
        digits = self._varint()
        if digits >> bits:
            raise ValueError(f"a number of {bits} bits has more")
        return digits >> 1 ^ -(digits & 1)

    def _varint(self) -> int:
        number = 0
        for place in range(_MAX_VARINT_BYTES):
            byte = self._byte()
            number |= (byte & 127) << 7 * place
            if byte < 128:
                return number
        raise ValueError("a number has no end")

    def _byte(self) -> int:
        byte = self._data[self.at]
        self.at += 1
        return byte
