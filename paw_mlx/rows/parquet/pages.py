"""What the pages of a Parquet file claim of their sizes, checked before pyarrow believes it.

pyarrow allocates what the header of a page claims. Here only the headers are read, those of a row
group when its rows are due, and what reading takes at once is held against the file's own size.
"""

from __future__ import annotations

import os
from array import array
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from ...errors import FormatError
from .thrift import I32, I64, Compact, ListOf

MAX_ROWS = 64  # at once
_HELD_BYTES = 96 << 20  # of pages at once, that any file may take,
_HELD_TIMES = 16  # and as often its size, if that is more
_ENTRY_BYTES = 20  # that pyarrow adds to each text of a dictionary
_HEADER_BYTES, _MAX_HEADER_BYTES = 1 << 8, 1 << 24
_SLACK_BYTES = 100  # that old writers forgot of a column's size; pyarrow looks there, too
_SECRET = -1  # where a column begins that takes a key

_CHUNK = {3: {5: I64, 7: I64, 9: I64, 11: I64}, 8: {}}  # its metadata, and how it is encrypted
_NUM_VALUES = {1: I32}
_HEADER = {1: I32, 2: I32, 3: I32, 5: _NUM_VALUES, 7: _NUM_VALUES, 8: _NUM_VALUES}
_DICTIONARY = 2
_PLACES = {0: 5, _DICTIONARY: 7, 3: 8}  # a page's kind -> where its header has more of it


class Leaf(NamedTuple):
    """A column as it is stored; `is_text` if its values have lengths of their own."""

    number: int
    path: str
    is_text: bool


class _Page(NamedTuple):
    kind: int
    num_bytes: int  # packed or not, whichever is more
    num_values: int
    end: int


class _Held:
    """What is held at once of a column whose pages are read one after another."""

    def __init__(self) -> None:
        self.dictionary_bytes = self.page_bytes = self.rows_bytes = self.num_values = 0
        self._pages: deque[_Page] = deque()
        self._bytes = self._values = 0  # of these

    def add(self, page: _Page) -> None:
        """Count a page; `rows_bytes` is what MAX_ROWS rows may lie in, wherever they begin."""
        self.page_bytes = max(self.page_bytes, page.num_bytes)
        self.num_values += page.num_values
        self._pages.append(page)
        self._bytes += page.num_bytes
        self._values += page.num_values
        # With a row of the first page and one of this page, all between have to be among them.
        while (
            len(self._pages) > 1
            and self._values - self._pages[0].num_values - page.num_values > MAX_ROWS - 2
        ):
            first = self._pages.popleft()
            self._bytes -= first.num_bytes
            self._values -= first.num_values
        self.rows_bytes = max(self.rows_bytes, self._bytes)


class Pages:
    """Where the footer of a file, `footer_bytes` that end at `footer_end`, says that pages are.

    FormatError for a footer that has two meanings, or is none.
    """

    def __init__(self, name: str, descriptor: int, footer_bytes: int, footer_end: int) -> None:
        self._name, self._descriptor = name, descriptor
        self._size = os.fstat(descriptor).st_size
        footer = os.pread(descriptor, footer_bytes, footer_end - footer_bytes)
        shape = {4: ListOf({1: ListOf(_CHUNK, _place)}, _flat)}
        try:
            self._groups: list[array[int]] = Compact(footer).read(shape).get(4, [])
        except IndexError:
            raise FormatError(f"{name} is damaged: its footer has no end") from None
        except ValueError as error:
            raise FormatError(f"{name} is damaged: in its footer {error}") from error
        claimed = sum(sum(group[1::3]) for group in self._groups)
        if claimed > self._size:
            raise FormatError(
                f"{name} is damaged: its {self._size:,} bytes claim columns of {claimed:,}"
            )

    def check(self, group: int, leaves: Sequence[Leaf]) -> int:
        """Return how many rows of these columns may be read at once from a row group.

        FormatError for headers that are none, and for pages that are too large for the file.
        """
        found = [self._walk(group, leaf) for leaf in leaves]
        most = max(_HELD_BYTES, _HELD_TIMES * self._size)
        held = sum(one.dictionary_bytes + one.page_bytes for one in found)
        if held > most:
            raise FormatError(
                f"{self._name} is a file of {self._size:,} bytes whose row group {group + 1:,} "
                f"has pages that take {held:,} at once, and {most:,} is the most",
                hint="If it is sound, write it anew with smaller pages.",
            )
        if sum(one.dictionary_bytes + one.rows_bytes for one in found) > most:
            return 1
        # What a dictionary holds once may stand in all rows of a batch, as often as that.
        texts = sum(
            one.dictionary_bytes for one, leaf in zip(found, leaves, strict=True) if leaf.is_text
        )
        return max(1, min(MAX_ROWS, most // max(texts, 1)))

    def _walk(self, group: int, leaf: Leaf) -> _Held:
        """Read the headers of a column's pages in a row group, as far as pyarrow reads it."""
        where = f"the column {_shown(leaf.path)} of row group {group + 1:,}"
        start, num_bytes, num_values = self._find(group, leaf, where)
        if start == _SECRET:
            raise FormatError(f"{self._name} has encrypted {where}, and no key can be given here")
        if start + num_bytes > self._size:
            raise FormatError(
                f"{self._name} is damaged: {where} ends at {start + num_bytes:,}, "
                f"and the file at {self._size:,}"
            )
        end = min(start + num_bytes + _SLACK_BYTES, self._size)
        held, number = _Held(), 0
        while held.num_values < num_values and start < end:
            number += 1
            page = self._page(start, end, f"page {number:,} in {where}")
            start = page.end
            if page.kind == _DICTIONARY:
                extra = _ENTRY_BYTES * page.num_values if leaf.is_text else 0
                held.dictionary_bytes = max(held.dictionary_bytes, page.num_bytes, extra)
            else:
                held.add(page)
        return held

    def _find(self, group: int, leaf: Leaf, where: str) -> array[int]:
        """Return where a column begins, its bytes, and how many values it has."""
        if group < len(self._groups) and len(self._groups[group]) >= 3 * leaf.number + 3:
            return self._groups[group][3 * leaf.number : 3 * leaf.number + 3]
        raise FormatError(f"{self._name} is damaged: its footer does not have {where}")

    def _page(self, start: int, end: int, where: str) -> _Page:
        """Read the header of a page."""
        found, begin = self._header(start, end, where)
        kind, num_unpacked, num_packed = found[1], found[2], found[3]
        num_values = 0
        if kind in _PLACES:
            num_values = found.get(_PLACES[kind], {}).get(1, -1)
        if min(num_unpacked, num_packed, num_values) < 0:
            raise FormatError(f"{self._name} is damaged: {where} has no sizes, or less than none")
        if num_packed > end - begin:
            raise FormatError(
                f"{self._name} is damaged: {where} claims {num_packed:,} bytes, "
                f"and {end - begin:,} are left"
            )
        return _Page(kind, max(num_unpacked, num_packed), num_values, begin + num_packed)

    def _header(self, start: int, end: int, where: str) -> tuple[dict[int, Any], int]:
        """Return what the header of a page says, and where it ends."""
        size, reason = _HEADER_BYTES, "it has no end"
        while True:
            compact = Compact(os.pread(self._descriptor, min(size, end - start), start))
            try:
                found = compact.read(_HEADER)
                if {1, 2, 3} <= found.keys():
                    return found, start + compact.at
                reason = "it lacks the sizes"
            except IndexError:
                if size < min(end - start, _MAX_HEADER_BYTES):
                    size *= 16
                    continue
            except ValueError as error:
                reason = str(error)
            raise FormatError(
                f"{self._name} is damaged: the header of {where} is none: {reason}"
            ) from None


def _place(chunk: dict[int, Any]) -> tuple[int, int, int]:
    """Return where a column begins in a row group, its bytes, and how many values it has."""
    found = chunk.get(3)
    if found is None or 8 in chunk:
        return _SECRET, 0, 0
    start, num_bytes, dictionary = found.get(9, -1), found.get(7, -1), found.get(11, 0)
    if 0 < dictionary < start:
        start = dictionary
    if min(start, num_bytes) < 0:
        raise ValueError("a column has no place")
    return start, num_bytes, found.get(5, 0)


def _flat(group: dict[int, Any]) -> array[int]:
    """Return a row group's columns, three numbers each."""
    return array("q", [number for place in group.get(1, []) for number in place])


def _shown(path: str) -> str:
    from ...formats.untrusted import shown

    return shown(path)
