"""Parquet files whose pages hold, or claim within, far more than they take: in little memory."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from parquet_rows import read_apart, signed, varint, write
from pyarrow import parquet as pq

from paw_mlx.errors import FormatError
from paw_mlx.rows.parquet import pages
from paw_mlx.rows.parquet.held import LENGTHS, Held, Leaf, Page, Run, row_bytes
from paw_mlx.rows.parquet.inside import check_counts
from paw_mlx.rows.parquet.source import open_parquet

MB = 1 << 20
PROMISED = 512 * MB
CLAIMED = 500_000_000
LONG = bytes(range(33, 113)).decode()  # which snappy leaves as it is


def numbers(total: int, *, first: int = 0, block: int = 1 << 31, minis: int = 1) -> bytes:
    """A list of numbers as DELTA has it: all are the first, whatever their count is."""
    head = varint(block) + varint(minis) + varint(total) + signed(first)
    return head + (b"\0\0" if total > 1 else b"")


def claim(path: Path, encoding: str, claimed: bytes, **how: Any) -> Path:
    """One text in an encoding, whose page begins with other numbers than it should."""
    schema = pa.schema([("text", pa.string()), pa.field("own", pa.string(), nullable=False)])
    table = pa.table({"text": ["a"], "own": [LONG]}, schema=schema)
    how = {"compression": "none", "use_dictionary": False, "write_statistics": False} | how
    write(path, table, column_encoding={"text": "PLAIN", "own": encoding}, **how)
    data = path.read_bytes()
    sound = numbers(1, block=128, minis=4) * (encoding == "DELTA_BYTE_ARRAY")
    sound += numbers(1, first=len(LONG), block=128, minis=4) + LONG.encode()
    begin = data.index(sound)
    path.write_bytes(data[:begin] + claimed + data[begin + len(claimed) :])
    return path


def claim_blocks(path: Path) -> Path:
    """Ten columns of two pages, each a number that claims a hundred million blocks to come."""
    names, value = [f"c{number}" for number in range(10)], (1 << 62) + 12345
    schema = pa.schema([pa.field(name, pa.int64(), nullable=False) for name in names])
    table = pa.table({name: [value] * 2 for name in names}, schema=schema)
    write(
        path,
        table.add_column(0, "text", pa.array(["a"] * 2)),
        use_dictionary=False,
        write_statistics=False,
        compression="none",
        column_encoding={"text": "PLAIN"} | dict.fromkeys(names, "DELTA_BINARY_PACKED"),
        data_page_size=1,
        write_batch_size=1,
    )
    sound = numbers(1, first=value, block=256, minis=4)
    first, *others = path.read_bytes().split(sound)
    assert len(others) == 20
    for number, other in enumerate(others):
        minis = (124_000_000, 134_000_000)[number % 2]
        claimed = numbers(1, block=32 * minis, minis=minis)
        first += claimed.ljust(len(sound), b"\0") + other
    path.write_bytes(first)
    return path


def packed(path: Path, own: Any, num_rows: int = 1, **how: Any) -> Path:
    """A column of which next to nothing is left when it is packed."""
    write(path, {"text": ["a"] * num_rows, "own": own}, compression="zstd", **how)
    assert path.stat().st_size < MB // 2
    return path


def listed(values: Any, *sizes: int) -> Any:
    """One list of values, or lists of so many."""
    offsets = [0]
    for size in sizes or (len(values),):
        offsets.append(offsets[-1] + size)
    return pa.ListArray.from_arrays(offsets, values)


def same(text: str, times: int) -> Any:
    return pa.array([text]).take(pa.array([0] * times))


def as_small(path: Path) -> Path:
    """Let the footer say that rows are small, so that as many as ever would be read at once."""
    total = b"\x16" + signed(pq.read_metadata(path).row_group(0).total_byte_size)
    data = path.read_bytes()
    assert total in data
    path.write_bytes(data.replace(total, b"\x16" + b"\x80" * (len(total) - 2) + b"\0"))
    return path


def read_all(path: Path) -> tuple[pa.Table, int]:
    """The rows of a file, and in how many batches they came."""
    with open_parquet(path) as source:
        batches = list(source.batches())
        return pa.Table.from_batches(batches, source.schema), len(batches)


def refusal(path: Path) -> str:
    with pytest.raises(FormatError) as caught:
        read_all(path)
    assert str(caught.value).startswith(str(path))
    return str(caught.value)


@pytest.mark.slow
def test_nothing_within_a_page_takes_more_memory_than_was_promised(tmp_path: Path) -> None:
    many, plain = numbers(CLAIMED), {"use_dictionary": False}
    nested = listed(pa.nulls(4 * MB, pa.int8()), *[1] * (4 * MB))
    prefixes = plain | {"column_encoding": {"text": "PLAIN", "own": "DELTA_BYTE_ARRAY"}}
    refused = [
        claim(tmp_path / "lengths.parquet", "DELTA_LENGTH_BYTE_ARRAY", many),
        claim(tmp_path / "prefixes.parquet", "DELTA_BYTE_ARRAY", many),
        claim(tmp_path / "suffixes.parquet", "DELTA_BYTE_ARRAY", numbers(1) + many),
        claim_blocks(tmp_path / "blocks.parquet"),
        packed(tmp_path / "nulls.parquet", listed(pa.nulls(20 * MB, pa.int64()))),
        packed(tmp_path / "nothing.parquet", listed(pa.nulls(20 * MB))),
        packed(tmp_path / "nested.parquet", listed(nested)),
        packed(tmp_path / "again.parquet", listed(same("x" * MB, 600))),
        packed(tmp_path / "fixed.parquet", pa.array([None] * 3, pa.list_(pa.int8(), 100 * MB)), 3),
        packed(tmp_path / "wide.parquet", listed(pa.nulls(600, pa.binary(MB))), **plain),
    ]
    read = [
        packed(tmp_path / "wide rows.parquet", pa.nulls(64, pa.binary(15 * MB)), 64, **plain),
        as_small(packed(tmp_path / "long.parquet", same("x" * 15 * MB, 8), 8, **prefixes)),
        as_small(packed(tmp_path / "looked up.parquet", same("x" * 15 * MB, 8), 8)),
    ]
    words, more = read_apart(tmp_path, [*refused, *read])
    assert more < PROMISED
    assert words == ["refused"] * 2 * len(refused) + ["read"] * 2 * len(read)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_count_within_a_page_is_held_against_its_header(tmp_path: Path, version: str) -> None:
    path, how = tmp_path / "in.parquet", {"data_page_version": version}
    page = f"{path} is damaged: in page 1 in the column 'own' of row group 1 it claims"
    for encoding, claimed in (
        ("DELTA_LENGTH_BYTE_ARRAY", numbers(2)),
        ("DELTA_BYTE_ARRAY", numbers(2)),
        ("DELTA_BYTE_ARRAY", numbers(1) + numbers(2)),
    ):
        found = refusal(claim(path, encoding, claimed, **how))
        assert found == f"{page} 2 values, and its header 1"
    found = refusal(claim(path, "DELTA_LENGTH_BYTE_ARRAY", numbers(1, minis=1 << 26), **how))
    assert found.startswith(f"{page} 67,108,864 blocks in ")
    packed_so = how | {"compression": "snappy"}
    found = refusal(claim(path, "DELTA_LENGTH_BYTE_ARRAY", numbers(2), **packed_so))
    assert found == f"{page} 2 values, and its header 1"
    for encoding in ("DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"):
        sound = claim(path, encoding, b"", **how)
        assert read_all(sound)[0]["own"].to_pylist() == [LONG]


def test_counts_in_pages_of_a_codec_that_is_not_known_are_refused(tmp_path: Path) -> None:
    """LZ4 as Hadoop frames it: the footer says so of what is not packed at all."""
    path = claim(tmp_path / "in.parquet", "DELTA_LENGTH_BYTE_ARRAY", b"")
    data, name = path.read_bytes(), b"\x19\x18\x03own\x15"
    assert data.count(name) == 1
    path.write_bytes(data.replace(name + b"\x00", name + signed(5)))
    assert "DELTA encodings in pages of codec 5, which cannot be checked" in refusal(path)


@pytest.mark.parametrize("is_packed", [True, False])
def test_a_page_that_says_it_is_not_packed_is_looked_into_both_ways(is_packed: bool) -> None:
    """As pyarrow does for whoever claims to be an old writer; read as it is, this one is sound."""
    leaf = Leaf(0, "own", True, 0, 1, 0, ())
    for total in (200, 201):
        body = numbers(total, block=128, minis=4).ljust(128, b"x")
        data = pa.compress(body, "snappy", asbytes=True)
        page = Page(3, 0, len(data), len(body), 200, LENGTHS, (0, 0), is_packed)
        if total == 200:
            check_counts(leaf, page, 1, data)
        else:
            with pytest.raises(ValueError, match="it claims 201 values, and its header 200"):
                check_counts(leaf, page, 1, data)


@pytest.mark.parametrize(
    ("own", "num_rows", "most_batches"),
    [
        (listed(pa.nulls(3_000_000, pa.int8()), *[1_000] * 3_000), 3_000, 47),
        (listed(pa.nulls(30_000 * 120, pa.int8()), *[30_000] * 120), 120, 3),
        (listed(same("tag", 2_900_000), *[580] * 5_000), 5_000, 79),
        (listed(listed(pa.nulls(3_000_000, pa.int8()), *[500] * 6_000), *[2] * 3_000), 3_000, 47),
        (
            listed(pa.array(["x" * 100_000, "a"]).take(pa.array([1] * 5_999 + [0])), *[3] * 2_000),
            2_000,
            40,
        ),
        (
            pa.array(
                [None, [[[0] * 3] * 100] * 100] * 40,
                pa.list_(pa.list_(pa.list_(pa.int8(), 3), 100), 100),
            ),
            80,
            4,
        ),
    ],
    ids=["lists", "long lists", "texts", "lists of lists", "a long text", "tensors"],
)
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_small_files_of_many_values_are_read(
    tmp_path: Path, own: Any, num_rows: int, most_batches: int, version: str
) -> None:
    """All of their values would be too much at once; their rows are not."""
    path = packed(tmp_path / "in.parquet", own, num_rows, data_page_version=version)
    found, num_batches = read_all(path)
    assert found["own"].combine_chunks().equals(own)
    assert num_batches <= most_batches


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("seed", range(8))
def test_no_batch_holds_more_values_than_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, seed: int
) -> None:
    """Wherever its rows begin, among short lists and long ones; the longest is the most of one."""
    most, value_bytes = 40_000, 24 + 4 * 3
    monkeypatch.setattr(pages, "_HELD_BYTES", most)
    monkeypatch.setattr(pages, "_HELD_TIMES", 0)
    chance = random.Random(seed)
    sizes = [chance.choice([0, 1, 1, 2, 5, 9, 30, 200, 400]) for _ in range(700)]
    own = listed(pa.nulls(sum(sizes), pa.int8()), *sizes)
    how = {"data_page_version": version, "data_page_size": 400, "write_batch_size": 90}
    path = packed(tmp_path / "in.parquet", own, len(sizes), use_dictionary=False, **how)
    with open_parquet(path) as source:
        batches = list(source.batches())
    assert pa.Table.from_batches(batches)["own"].combine_chunks().equals(own)
    held = [len(batch["own"].flatten()) * value_bytes for batch in batches]
    assert most / 20 < max(held) <= most
    sizes[chance.randrange(len(sizes))] = most // value_bytes + 1
    own = listed(pa.nulls(sum(sizes), pa.int8()), *sizes)
    packed(path, own, len(sizes), use_dictionary=False, **how)
    assert "has pages that take 4" in refusal(path)


def test_values_before_the_first_row_of_others_belong_to_the_row_before() -> None:
    leaf = Leaf(0, "own.list.element", False, 1, 3, 0, ())
    page = Page(0, 0, 10, 10, 200, 0, (3, 3), False)
    for begins_row, values in ((True, 100), (False, 200)):
        held = Held(leaf)
        held.add(page, [Run(1, 100, 0, True), Run(1, 100, 0, begins_row)])
        assert values * 36 <= row_bytes([held]) < values * 36 + 50
