"""Parquet files that tests of `map` read and write."""

from __future__ import annotations

import datetime
import subprocess
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet as pq

from paw_mlx.machine.memory import footprint

CHILD = """
import sys
sys.path[:0] = sys.argv[1:3]
from pathlib import Path
from parquet_rows import peak_bytes
from sqlite_rows import shout
from paw_mlx.errors import FormatError
honest, *made = map(Path, sys.argv[3:])
for suffix in (".jsonl", ".parquet"):
    shout(honest, honest.with_suffix(f".out{suffix}"), field="text")
before = peak_bytes()
for file in made:
    for suffix in (".jsonl", ".parquet"):
        try:
            shout(file, file.with_suffix(f".out{suffix}"), field="text")
            print("read", file)
        except FormatError as error:
            print("refused", error)
print(peak_bytes() - before)
"""

TEXTS = ["picnic", "wrong", None, "the disk", "picnic", "世界"]
COLUMNS = {
    "text": pa.array(TEXTS),
    "i8": pa.array([1, None, -1, 0, 127, -128], pa.int8()),
    "u64": pa.array([2**64 - 1, 0, None, 1, 2, 3], pa.uint64()),
    "f16": pa.array([1.5, None, 0.25, 0, 1, 2], pa.float32()).cast(pa.float16()),
    "f64": pa.array([0.1, float("inf"), -0.0, None, 1e300, 5e-324]),
    "bool": pa.array([True, None, False, True, True, False]),
    "zoned": pa.array(
        [1, 1_700_000_000_123_456_789, None, 0, -1, 2], pa.timestamp("ns", "Asia/Tokyo")
    ),
    "local": pa.array([1, 1_700_000_000_123_456, None, 0, -1, 2], pa.timestamp("us")),
    "far": pa.array([2**62, -(2**62), None, 0, 1, 2], pa.timestamp("ms", "UTC")),
    "date": pa.array([datetime.date(2024, 2, 29), None, datetime.date(1, 1, 1)] * 2),
    "time": pa.array([1, None, 86_399_999_999_999, 0, 1_000, 10**9], pa.time64("ns")),
    "duration": pa.array([-1500, 0, None, 1, 2, 3_600_000], pa.duration("ms")),
    "decimal": pa.array([Decimal("1.10"), Decimal("-1234567.00"), None] * 2, pa.decimal128(20, 2)),
    "wide": pa.array([Decimal("1e50"), None, Decimal("5")] * 2, pa.decimal256(60, 2)),
    "binary": pa.array([b"\xff\0", b"", None] * 2),
    "fixed": pa.array([b"ab", None, b"\0\1"] * 2, pa.binary(2)),
    "large": pa.array(["é", None, ""] * 2, pa.large_string()),
    "list": pa.array(
        [[1, None], [], None] * 2, pa.list_(pa.field("n", pa.int32(), metadata={"a": "b"}))
    ),
    "pair": pa.array([[1, 2], [None, 0], [3, 4]] * 2, pa.list_(pa.int8(), 2)),
    "deep": pa.array([[["a"], None], None, [[]]] * 2, pa.list_(pa.list_(pa.string()))),
    "struct": pa.array(
        [{"a": 1, "b": [b"q"]}, None, {"a": None, "b": None}] * 2,
        pa.struct([("a", pa.int64()), ("b", pa.list_(pa.binary()))]),
    ),
    "map": pa.array([[("k", 1)], None, []] * 2, pa.map_(pa.string(), pa.int64())),
    "numbered": pa.array([[(1, "x"), (2, None)], None, []] * 2, pa.map_(pa.int64(), pa.string())),
    "category": pa.array(["x", "y", None] * 2).dictionary_encode(),
    "nothing": pa.nulls(6),
}  # fmt: skip


def every_type() -> pa.Table:
    """A row of every type, with metadata of the table and of fields."""
    fields = [pa.field(name, column.type) for name, column in COLUMNS.items()]
    fields[1] = fields[1].with_metadata({"unit": "m", "PARQUET:field_id": "7"})
    schema = pa.schema(fields, metadata={"source": "sensors"})
    return pa.Table.from_arrays([*COLUMNS.values()], schema=schema)


def write(path: Path, table: Any, **how: Any) -> Path:
    """Write a table, or columns."""
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), path, **how)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a table as numbers where Python's own types lose some of it."""
    exact = {
        field.name: pa.int64()
        for field in table.schema
        if pa.types.is_temporal(field.type) and field.type.bit_width == 64
    }
    columns = [
        table[name].cast(exact[name]) if name in exact else table[name]
        for name in table.column_names
    ]
    return pa.table(columns, names=table.column_names).to_pylist()


def peak_bytes() -> int:
    """The most memory that this process has had; on Linux, rusage would tell its parent's, too."""
    peak = footprint()[1]
    assert peak is not None
    return peak


def varint(number: int) -> bytes:
    """Write a number as Thrift does in its compact protocol."""
    digits = []
    while number >= 128:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])


def signed(number: int) -> bytes:
    """Write a number that may be below 0, as both Thrift and DELTA encodings do."""
    return varint(number << 1 if number >= 0 else (-number << 1) - 1)


def read_apart(folder: Path, files: Sequence[Path]) -> tuple[list[str], int]:
    """Read files to JSONL and to Parquet in a process of its own, after one that is as usual.

    Return `read` or `refused`, twice a file, and how much more memory they took than that one.
    """
    honest = write(folder / "honest.parquet", {"text": ["a"], "own": ["b"]}, compression="zstd")
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, [here, here.parent, honest, *files])],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert not done.stderr
    *said, more = done.stdout.splitlines()
    return [line.split()[0] for line in said], int(more)
