"""What stands inside the pages of a Parquet file, where their headers leave open what it makes.

Read is where rows begin, what DELTA encodings claim, and how long the texts of a dictionary are. It
is read as pyarrow does, and what pyarrow would refuse may be anything. IndexError or ValueError for
what is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pyarrow as pa

from .held import LENGTHS, MAX_ROWS, PREFIXES, Leaf, Page, Run

_CODECS = {1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}
_PLAIN_CODEC, _VERSION_2 = 0, 3
_RLE, _BIT_PACKED = 3, 4
_LISTS = {5: 1, LENGTHS: 1, PREFIXES: 2}  # DELTA encodings -> lists of numbers they begin with
_MINIBLOCKS = 1 << 10  # that any list may claim: pyarrow takes a byte for each
_MINI_VALUES = 32  # of which it takes multiples alone
_MIN_VALUES = 32  # whose rows are told together, of eight in a group
_MAX_VARINT_BYTES = 10

_Bytes = bytes | memoryview


def is_known(codec: int) -> bool:
    """Return whether pages that are packed so can be looked into."""
    return codec == _PLAIN_CODEC or codec in _CODECS


def claims_counts(page: Page) -> bool:
    """Return whether a page has counts of its own, which pyarrow allocates."""
    return page.encoding in _LISTS


def check_counts(leaf: Leaf, page: Page, codec: int, data: bytes) -> None:
    """Raise ValueError if a page claims more values than its header does."""
    _, read = _parts(leaf, page, codec, data)
    for values in read:
        at = 0
        for left in reversed(range(_LISTS[page.encoding] if values else 0)):
            at = _check_list(values, at, page.num_values, skip=left > 0)


def longest(page: Page, codec: int, data: bytes) -> int:
    """Return the bytes of the longest text of a dictionary."""
    values = _unpack(codec, data, page.num_unpacked)
    most = at = 0
    for _ in range(page.num_values):
        if at + 4 > len(values):
            break
        size = int.from_bytes(values[at : at + 4], "little")
        most, at = max(most, size), at + 4 + size
    return min(most, len(values))


def runs(leaf: Leaf, page: Page, codec: int, data: bytes, ticks: Iterator[int]) -> Iterator[Run]:
    """Give the values of a page of lists, some at a time, as their levels of repetition tell them.

    Each step takes a tick; where there are none left, the rest is not told apart.
    """
    levels, _ = _parts(leaf, page, codec, data)
    left, rows, values, padding, begins = page.num_values, 0, 0, 0, True
    for _, (num_rows, num_values, filled, begins_row) in zip(
        ticks, _runs(levels, leaf, left), strict=False
    ):
        left -= num_rows if num_rows > num_values else num_values
        if num_rows and values >= _MIN_VALUES:
            yield Run(rows, values, padding, begins)
            rows, values, padding = 0, 0, 0
        if not values:
            begins = begins_row
        rows, values, padding = rows + num_rows, values + num_values, padding + filled
    if values:
        yield Run(rows, values, padding, begins)
    yield from unknown(leaf, left)


def unknown(leaf: Leaf, num_values: int) -> Iterator[Run]:
    """Give values of which nothing is known: they may all be of one row."""
    if num_values:
        yield Run(0, num_values, num_values * max(leaf.padding, default=0), begins_row=False)


def _runs(levels: _Bytes, leaf: Leaf, left: int) -> Iterator[tuple[int, int, int, bool]]:
    """Give what a `Run` is made of, of values of one level or of a few that stand packed."""
    bits, padding, at = leaf.max_repetition.bit_length(), leaf.padding, 0
    num_bytes, end = (bits + 7) // 8, len(levels)
    while left and at < end:
        head, at = _varint(levels, at) if levels[at] & 128 else (levels[at], at + 1)
        num_values = min(left, (head >> 1) * 8 if head & 1 else head >> 1)
        if not num_values:
            return
        left -= num_values
        if head & 1:
            yield from _packed(levels[at : at + (head >> 1) * bits], bits, num_values, padding)
            at += (head >> 1) * bits
            continue
        level = int.from_bytes(levels[at : at + num_bytes], "little")
        at += num_bytes
        num_rows = 0 if level else num_values
        if num_rows > MAX_ROWS:  # of a value each: no more of them are read at once
            num_values = MAX_ROWS
        filled = num_values * padding[level] if level < len(padding) else 0
        yield num_rows, num_values, filled, not level


def _packed(
    data: _Bytes, bits: int, left: int, padding: tuple[int, ...]
) -> Iterator[tuple[int, int, int, bool]]:
    """Give the same of values whose levels stand one after another in so many bits each."""
    step = bits * _MIN_VALUES // 8
    for begin in range(0, len(data), step):
        levels, num = int.from_bytes(data[begin : begin + step], "little"), min(left, _MIN_VALUES)
        if not num:
            return
        left -= num
        filled = sum(each * _times(levels, level, num, bits) for level, each in enumerate(padding))
        yield _times(levels, 0, num, bits), num, filled, not levels & ((1 << bits) - 1)


def _times(levels: int, level: int, num: int, bits: int) -> int:
    """Return how often a level stands among so many, of so many bits each."""
    ones = _ones(num, bits)
    differ = others = levels ^ level * ones
    for _ in range(1, bits):
        others >>= 1
        differ |= others
    return num - (differ & ones).bit_count()


@cache
def _ones(num: int, bits: int) -> int:
    """Return a number that has a 1 in each of so many fields."""
    return ((1 << num * bits) - 1) // ((1 << bits) - 1)


def _check_list(data: _Bytes, at: int, most: int, *, skip: bool) -> int:
    """Return where a list of numbers ends that claims no more than so many, or where it begins."""
    block, at = _varint(data, at)
    num_minis, at = _varint(data, at)
    total, at = _varint(data, at)
    _, at = _varint(data, at)
    if total > most:
        raise ValueError(f"it claims {total:,} values, and its header {most:,}")
    if num_minis > max(len(data) - at, _MINIBLOCKS):
        raise ValueError(f"it claims {num_minis:,} blocks in {len(data) - at:,} bytes")
    if not skip:
        return at
    mini = block // max(num_minis, 1)
    if mini < _MINI_VALUES:
        raise ValueError(f"its blocks are of {mini:,} values")
    left = total - 1  # the first stands before the blocks
    while left > 0:
        _, at = _varint(data, at)
        widths, at = data[at : at + num_minis], at + num_minis
        if len(widths) < num_minis:
            raise IndexError
        for width in widths[: -(-left // mini)]:
            at += mini * width // 8
        left -= num_minis * mini
    return at


def _varint(data: _Bytes, at: int) -> tuple[int, int]:
    """Return a number, and where it ends."""
    number = 0
    for place in range(_MAX_VARINT_BYTES):
        byte = data[at + place]
        number |= (byte & 127) << 7 * place
        if byte < 128:
            return number, at + place + 1
    raise ValueError("a number has no end")


def _parts(leaf: Leaf, page: Page, codec: int, data: bytes) -> tuple[_Bytes, list[_Bytes]]:
    """Return the levels of repetition of a page, and what its values may be read as."""
    if page.kind == _VERSION_2:
        num_levels, num_more = page.levels
        begin = num_levels + num_more
        if min(page.levels) < 0 or begin > min(len(data), page.num_unpacked):
            raise ValueError(f"it claims levels of {num_levels:,} and {num_more:,} bytes")
        return data[:num_levels], _values(page, codec, memoryview(data)[begin:], begin)
    whole, at = _unpack(codec, data, page.num_unpacked), 0
    levels: _Bytes = b""
    for number, encoding in enumerate(page.levels):
        bits = (leaf.max_repetition, leaf.max_definition)[number].bit_length()
        if encoding == _BIT_PACKED or not bits:
            at += -(-page.num_values * bits // 8)
            continue
        if encoding != _RLE:
            raise ValueError(f"its levels have an encoding {encoding}")
        begin = at + 4
        at = begin + int.from_bytes(whole[at:begin], "little")
        if not number:
            levels = whole[begin:at]
    return levels, [memoryview(whole)[at:]]


def _values(page: Page, codec: int, data: _Bytes, num_levels: int) -> list[_Bytes]:
    """Return what the values of a page of version 2 may be read as, behind so many bytes."""
    read = [data] if codec == _PLAIN_CODEC or not page.is_packed else []
    if codec != _PLAIN_CODEC:
        try:
            read.append(_unpack(codec, data, page.num_unpacked - num_levels))
        except (OSError, pa.ArrowException):
            if page.is_packed:  # but old writers packed, too, where they said that they did not
                raise
    return read


def _unpack(codec: int, data: _Bytes, num_bytes: int) -> _Bytes:
    """Return what bytes are of a codec that is known."""
    if codec == _PLAIN_CODEC:
        return data
    return pa.Codec(_CODECS[codec]).decompress(data, num_bytes, asbytes=True) if num_bytes else b""
