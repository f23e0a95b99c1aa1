"""What pyarrow holds at once of a column, by what its pages claim and what stands in them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import types

MAX_ROWS = 64  # at once
DICTIONARY = 2  # a page's kind
LENGTHS, PREFIXES = 6, 7  # encodings: DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY
_LOOKED_UP = (2, 8)  # those whose values stand in the dictionary

_ENTRY_BYTES = 20  # that pyarrow adds to each text of a dictionary,
_LENGTH_BYTES = 8  # to each value whose length a page has apart,
_VALUE_BYTES, _DEFINED_BYTES = 24, 4  # and to each value of a list; again for what it is part of
_PADDED_BYTES = 8  # at least, of a value that stands for nothing in a list of fixed size


class Leaf(NamedTuple):
    """A column as it is stored; `is_text` if its values have lengths of their own.

    `width` is what pyarrow makes of any value in bytes, be it null, and `padding` what of a null
    among the lists of a depth, which is more than nothing where lists have a fixed size.
    """

    number: int
    path: str
    is_text: bool
    max_repetition: int
    max_definition: int
    width: int
    padding: tuple[int, ...]

    def is_open(self, page: Page) -> bool:
        """Return whether the header of a page leaves open how much is made of it."""
        return self.is_text if page.kind == DICTIONARY else self.max_repetition > 0


class Page(NamedTuple):
    """What the header of a page says, and where the page itself begins.

    `levels` are how repetitions and definitions are encoded, or their bytes in a page of version 2.
    """

    kind: int
    begin: int
    num_packed: int
    num_unpacked: int
    num_values: int
    encoding: int
    levels: tuple[int, int]
    is_packed: bool

    @property
    def num_bytes(self) -> int:
        """What it takes, packed or not."""
        lengths = _LENGTH_BYTES * self.num_values if self.encoding in (LENGTHS, PREFIXES) else 0
        return max(self.num_packed, self.num_unpacked) + lengths


class Run(NamedTuple):
    """Values one after another, of which some begin a row, and what is made of nulls among them."""

    num_rows: int
    num_values: int
    padding: int
    begins_row: bool


class _Window:
    """The most bytes that `num_rows` rows, one after another, may lie in, wherever they begin."""

    def __init__(self, num_rows: int) -> None:
        self.most, self.num_rows = 0, num_rows
        self._parts: deque[tuple[int, int]] = deque()
        self._bytes = self._rows = 0  # of these; of rows, without those of the first

    def add(self, num_rows: int, num_bytes: int, *, begins_row: bool = True) -> None:
        """Count what follows, in which so many rows begin, one of them at its begin."""
        self._rows += num_rows if self._parts else 0
        self._parts.append((num_rows, num_bytes))
        self._bytes += num_bytes
        # With a row of the first part and one of this, all between have to be among them; where
        # this one begins in the midst of a row, that may be the first's.
        spare = self.num_rows + num_rows - (2 if begins_row else 1)
        while len(self._parts) > 1 and self._rows > spare:
            self._bytes -= self._parts.popleft()[1]
            self._rows -= self._parts[0][0]
        self.most = max(self.most, self._bytes)


class Held:
    """What is held at once of a column whose pages are read one after another."""

    def __init__(self, leaf: Leaf) -> None:
        self._leaf, self._text_bytes = leaf, 0
        self.dictionary_bytes = self.page_bytes = self.row_bytes = self.num_values = 0
        self.has_counts = False  # in its pages, which are to be looked at
        self.one, self.many = _Window(1), _Window(MAX_ROWS)

    def add_dictionary(self, page: Page, text_bytes: int) -> None:
        """Count a dictionary, whose longest text has so many bytes."""
        entries = _ENTRY_BYTES * page.num_values if self._leaf.is_text else 0
        self.dictionary_bytes = max(self.dictionary_bytes, page.num_bytes, entries)
        self._text_bytes = max(self._text_bytes, text_bytes if self._leaf.is_text else 0)

    def add(self, page: Page, runs: Iterable[Run]) -> None:
        """Count a page; of a column without lists, which has a value a row, runs are not asked."""
        self.page_bytes = max(self.page_bytes, page.num_bytes)
        self.num_values += page.num_values
        # What stands in the file once may be said by each value; it is made twice, as it grows.
        value_bytes = self._leaf.width
        if page.encoding in _LOOKED_UP:
            value_bytes += self._text_bytes
        elif page.encoding == PREFIXES:
            value_bytes += page.num_bytes
        value_bytes *= 2
        if not self._leaf.max_repetition:
            self.row_bytes = max(self.row_bytes, value_bytes)
            for window in (self.one, self.many):
                window.add(page.num_values, page.num_bytes, begins_row=page.num_values > 0)
            return
        value_bytes += _VALUE_BYTES + _DEFINED_BYTES * self._leaf.max_definition
        first = page.num_bytes
        for num_rows, num_values, padding, begins_row in runs:
            num_bytes = first + num_values * value_bytes + padding
            for window in (self.one, self.many):
                window.add(num_rows, num_bytes, begins_row=begins_row)
            first = 0

    @property
    def base_bytes(self) -> int:
        """What is held besides the rows: rows of lists may begin in the midst of a page."""
        return self.dictionary_bytes + (self.page_bytes if self._leaf.max_repetition else 0)


def row_bytes(found: Sequence[Held]) -> int:
    """Return what columns hold while a row is read."""
    return sum(one.base_bytes + one.one.most + one.row_bytes for one in found)


def rows_at_once(found: Sequence[Held], most: int) -> int:
    """Return how many rows of columns hold no more than so many bytes; 0 if a row holds more."""
    left = most - sum(one.base_bytes for one in found)
    more = sum(one.row_bytes for one in found)  # with each row
    many, single = (sum(one.many.most for one in found), sum(one.one.most for one in found))
    fitting = max((left - many) // max(more, 1), left // max(single + more, 1))
    return max(0, min(MAX_ROWS, fitting))


def leaves(schema: Any, stored: Any) -> Iterator[Leaf]:
    """Give the columns that are stored of an Arrow schema, in their order."""
    shapes = [shape for field in schema for shape in _shapes(field.type, ())]
    for number, sizes in zip(range(len(stored)), shapes, strict=True):
        column = stored.column(number)
        width = column.length if column.physical_type == "FIXED_LEN_BYTE_ARRAY" else 0
        yield Leaf(
            number,
            column.path,
            column.physical_type == "BYTE_ARRAY",
            column.max_repetition_level,
            column.max_definition_level,
            width,
            _padding(sizes, max(width, _PADDED_BYTES)),
        )


def _shapes(kind: Any, sizes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Give the sizes of the lists around each column that is stored of a type; 0 if any size."""
    if isinstance(kind, pa.BaseExtensionType):
        yield from _shapes(kind.storage_type, sizes)
    elif types.is_dictionary(kind):
        yield from _shapes(kind.value_type, sizes)
    elif not kind.num_fields:
        yield sizes
    else:
        if types.is_fixed_size_list(kind):
            sizes = (*sizes, kind.list_size)
        elif not types.is_struct(kind):
            sizes = (*sizes, 0)
        for number in range(kind.num_fields):
            yield from _shapes(kind.field(number).type, sizes)


def _padding(sizes: tuple[int, ...], width: int) -> tuple[int, ...]:
    """Return the bytes of a null among the lists of each depth: all that it might have held."""
    if not any(sizes):
        return ()
    padding = []
    for depth in range(len(sizes)):
        num_values = 1
        for size in sizes[depth:]:
            num_values *= max(size, 1)
        padding.append(num_values * width)
    return tuple(padding)
