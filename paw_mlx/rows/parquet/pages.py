"""What the pages of a Parquet file claim of their sizes, checked before pyarrow believes it.

pyarrow allocates what the header of a page claims, and what is claimed within. Here the headers are
read, those of a row group when its rows are due, and what reading takes at once is held against the
file's own size. Pages themselves are looked into where their headers do not tell enough.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from ...errors import FormatError
from . import inside
from .held import DICTIONARY, Held, Leaf, Page, row_bytes, rows_at_once
from .thrift import BOOL, I32, I64, Compact, ListOf

_HELD_BYTES = 96 << 20  # at once, that any file may take,
_HELD_TIMES = 16  # and as often its size, if that is more
_FEW_ROWS = 16  # pages are looked into rather than that fewer are read at once
_HEADER_BYTES, _MAX_HEADER_BYTES = 1 << 8, 1 << 24
_SLACK_BYTES = 100  # that old writers forgot of a column's size; pyarrow looks there, too
_MAX_RUNS = 1 << 21  # of a row group's values in lists, told apart in about 4 s,
_RUN_BYTES = 4  # and one more for so many bytes of a file, if those are more
_SECRET = -1  # where a column begins that takes a key

# A column's codec, values, bytes, where its pages and its dictionary begin; how it is encrypted.
_CHUNK = {3: {4: I32, 5: I64, 7: I64, 9: I64, 11: I64}, 8: {}}
_CHUNK_NUMBERS = 4  # that are kept of these
_VERSION_1 = {1: I32, 2: I32, 3: I32, 4: I32}
_VERSION_2 = {1: I32, 4: I32, 5: I32, 6: I32, 7: BOOL}
_HEADER = {1: I32, 2: I32, 3: I32, 5: _VERSION_1, 7: {1: I32}, 8: _VERSION_2}
# A page's kind -> where its header has more of it, and there its encoding and its levels.
_PLACES = {0: (5, 2, 4, 3), DICTIONARY: (7, 0, 0, 0), 3: (8, 4, 6, 5)}


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
        claimed = sum(sum(group[1::_CHUNK_NUMBERS]) for group in self._groups)
        if claimed > self._size:
            raise FormatError(
                f"{name} is damaged: its {self._size:,} bytes claim columns of {claimed:,}"
            )

    def check(self, group: int, leaves: Sequence[Leaf]) -> int:
        """Return how many rows of these columns may be read at once from a row group.

        FormatError for headers that are none, for counts that lie, and for what is too large for
        the file.
        """
        found = [self._walk(group, leaf) for leaf in leaves]
        most = max(_HELD_BYTES, _HELD_TIMES * self._size)
        pages = sum(one.dictionary_bytes + one.page_bytes for one in found)
        if pages <= most:
            exact = rows_at_once(found, most) < _FEW_ROWS
            ticks = iter(range(max(_MAX_RUNS, self._size // _RUN_BYTES)))
            for number, leaf in enumerate(leaves):
                if found[number].has_counts or (exact and (leaf.max_repetition or leaf.is_text)):
                    found[number] = self._walk(group, leaf, ticks)
            if num_rows := rows_at_once(found, most):
                return num_rows
        held = max(pages, row_bytes(found))
        raise FormatError(
            f"{self._name} is a file of {self._size:,} bytes whose row group {group + 1:,} "
            f"has pages that take {held:,} at once, and {most:,} is the most",
            hint="If it is sound, write it anew with smaller pages, or shorter lists.",
        )

    def _walk(self, group: int, leaf: Leaf, ticks: Iterator[int] | None = None) -> Held:
        """Read a column's pages in a row group, as far as pyarrow does.

        It is their headers that are read; with `ticks`, pages are looked into as well.
        """
        where = f"the column {_shown(leaf.path)} of row group {group + 1:,}"
        start, num_bytes, num_values, codec = self._find(group, leaf, where)
        if start == _SECRET:
            raise FormatError(f"{self._name} has encrypted {where}, and no key can be given here")
        if start + num_bytes > self._size:
            raise FormatError(
                f"{self._name} is damaged: {where} ends at {start + num_bytes:,}, "
                f"and the file at {self._size:,}"
            )
        end = min(start + num_bytes + _SLACK_BYTES, self._size)
        held, number = Held(leaf), 0
        while held.num_values < num_values and start < end:
            number += 1
            page = self._page(start, end, f"page {number:,} in {where}")
            start = page.begin + page.num_packed
            try:
                self._add(held, leaf, page, codec, ticks)
            except pa.ArrowException:
                raise
            except (IndexError, ValueError) as error:
                reason = str(error) if isinstance(error, ValueError) else "it has no end"
                raise FormatError(
                    f"{self._name} is damaged: in page {number:,} in {where} {reason}"
                ) from None
        return held

    def _add(
        self, held: Held, leaf: Leaf, page: Page, codec: int, ticks: Iterator[int] | None
    ) -> None:
        """Count a page by its header, or by what stands in it."""
        has_counts = inside.claims_counts(page)
        held.has_counts |= has_counts
        data = None
        if has_counts and not inside.is_known(codec):
            raise FormatError(
                f"{self._name} has DELTA encodings in pages of codec {codec}, "
                "which cannot be checked",
                hint="Write it anew with another compression, as zstd.",
            )
        if ticks is not None and (has_counts or (inside.is_known(codec) and leaf.is_open(page))):
            data = os.pread(self._descriptor, page.num_packed, page.begin)
        if page.kind == DICTIONARY:
            text = page.num_unpacked if data is None else inside.longest(page, codec, data)
            held.add_dictionary(page, text)
        elif data is None or ticks is None:
            held.add(page, inside.unknown(leaf, page.num_values))
        else:
            if has_counts:
                inside.check_counts(leaf, page, codec, data)
            held.add(page, inside.runs(leaf, page, codec, data, ticks))

    def _find(self, group: int, leaf: Leaf, where: str) -> array[int]:
        """Return where a column begins, its bytes, how many values it has, and its codec."""
        begin, end = (_CHUNK_NUMBERS * (leaf.number + more) for more in (0, 1))
        if group < len(self._groups) and len(self._groups[group]) >= end:
            return self._groups[group][begin:end]
        raise FormatError(f"{self._name} is damaged: its footer does not have {where}")

    def _page(self, start: int, end: int, where: str) -> Page:
        """Read the header of a page."""
        found, begin = self._header(start, end, where)
        kind, num_unpacked, num_packed = found[1], found[2], found[3]
        place, encoding, repetition, definition = _PLACES.get(kind, (0, 0, 0, 0))
        more = found.get(place, {})
        num_values = more.get(1, -1) if place else 0
        if min(num_unpacked, num_packed, num_values) < 0:
            raise FormatError(f"{self._name} is damaged: {where} has no sizes, or less than none")
        if num_packed > end - begin:
            raise FormatError(
                f"{self._name} is damaged: {where} claims {num_packed:,} bytes, "
                f"and {end - begin:,} are left"
            )
        levels = more.get(repetition, -1), more.get(definition, -1)
        return Page(
            kind,
            begin,
            num_packed,
            num_unpacked,
            num_values,
            more.get(encoding, -1),
            levels,
            more.get(7, False),
        )

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


def _place(chunk: dict[int, Any]) -> tuple[int, int, int, int]:
    """Return where a column begins in a row group, its bytes, how many values, and its codec."""
    found = chunk.get(3)
    if found is None or 8 in chunk:
        return _SECRET, 0, 0, 0
    start, num_bytes, dictionary = found.get(9, -1), found.get(7, -1), found.get(11, 0)
    if 0 < dictionary < start:
        start = dictionary
    if min(start, num_bytes) < 0:
        raise ValueError("a column has no place")
    return start, num_bytes, found.get(5, 0), found.get(4, -1)


def _flat(group: dict[int, Any]) -> array[int]:
    """Return a row group's columns, `_CHUNK_NUMBERS` each."""
    return array("q", [number for place in group.get(1, []) for number in place])


def _shown(path: str) -> str:
    from ...formats.untrusted import shown

    return shown(path)
