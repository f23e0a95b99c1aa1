"""Rows as people and programs wrote them: csv, JSON lines, lines, packed ones, Parquet, SQLite."""

from __future__ import annotations

import gzip
import json
import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from random import Random

from paw_mlx.errors import FormatError, PawError
from paw_mlx.rows.formats import open_reader, open_writer
from paw_mlx.rows.opening import open_source
from paw_mlx.rows.row import Added

from ..json_values import lines_mutation
from ..mutate import EDGES, Mutation, mutate_bytes, text_mutation
from ..target import Target

_MOST_ROWS = 2000  # of an input that are read


def _read(path: Path, format_: str, written: str) -> None:
    """Read rows, and write them with an answer each; what was written is whole."""
    with open_source([path]) as source:
        reader = open_reader(format_, source, None)
        added = Added.to(reader.columns, "output", False)
        writer = open_writer(written, source, reader, path.with_name("out"), added)
        answer, lines, num_bytes = FormatError("the row is none"), [writer.head], 0
        for row in islice(filter(None, reader), _MOST_ROWS):
            line = writer.row(row, answer)
            num_bytes += len(line)
            if num_bytes < 1 << 20:
                lines.append(line)
        # What a resumed run takes for damage.
        with suppress(ValueError, LookupError, TypeError, RecursionError):
            list(writer.whole(iter(b"".join(lines).splitlines(keepends=True))))


def _target(
    name: str, suffix: str, format_: str, seeds: list[bytes], mutate: Mutation
) -> Callable[[Path], Target]:
    def made(sandbox: Path) -> Target:
        path = sandbox / f"rows{suffix}"

        def read(data: bytes) -> None:
            path.write_bytes(data)
            for written in ("jsonl", "csv"):
                _read(path, format_, written)

        return Target(name, seeds, read, mutate)

    return made


_CSV = (
    b'id,input,"my ""note"""\r\n1,"the disk,\r\nis full",x\r\n'
    b'2,\xc3\xa9t\xc3\xa9,"",\r\n3,"a","b"\r\n'
)
_TSV = b'\xef\xbb\xbfsep=;\nid;text\n1;it\'s "here\n2;"a;b"\n'
_JSONL = b"".join(
    json.dumps(row).encode() + b"\n"
    for row in (
        {"input": "the disk is full", "id": 1},
        {"input": "x", "id": 2, "more": {"a": [1.5, None, True]}},
        {"input": "\U0001f30d", "id": 1 << 70},
    )
)
_LINES = b"one\r\ntwo\n\n\xef\xbb\xbfthree\xff\nfour"

csv = _target("csv", ".csv", "csv", [_CSV, _TSV], text_mutation)
jsonl = _target("jsonl", ".jsonl", "jsonl", [_JSONL, b'"a"\n"b"\n'], lines_mutation)
lines = _target("lines", ".txt", "lines", [_LINES], text_mutation)


def packed_rows(sandbox: Path) -> Target:
    """JSON lines in gzip and in zstd: what is packed is changed, or what it holds."""

    def read(data: bytes) -> None:
        for suffix in (".gz", ".zst"):
            path = sandbox / f"rows.jsonl{suffix}"
            path.write_bytes(data)
            with suppress(PawError):
                _read(path, "jsonl", "jsonl")

    return Target("packed-rows", [gzip.compress(_JSONL), _zstd(_JSONL)], read, _repack)


def _repack(data: bytes, chance: Random) -> bytes:
    with suppress(zlib.error):
        if chance.random() < 0.5:
            held = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data, 1 << 14)
            held = lines_mutation(held, chance)[: 1 << 16]
            times = chance.choice((1, 1, 1, 200))
            return gzip.compress(held * times) + chance.choice((b"", b"", b"\0" * 9, data))
    return mutate_bytes(data, chance)


def _zstd(data: bytes) -> bytes:
    import pyarrow

    made: bytes = pyarrow.compress(data, codec="zstd", asbytes=True)
    return made


def parquet(sandbox: Path) -> Target:
    import pyarrow
    from pyarrow import parquet as files

    path, seeds = sandbox / "rows.parquet", []
    table = pyarrow.table(
        {
            "input": ["the disk", None, "é"],
            "n": [1, 2, None],
            "f": [0.5, float("nan"), None],
            "l": [[1, 2], [], None],
            "s": [{"a": 1}, {"a": None}, None],
            "b": [b"x", b"\xff", None],
        }
    )
    delta = {"input": "DELTA_BYTE_ARRAY", "b": "DELTA_LENGTH_BYTE_ARRAY"}
    for options in (
        {},
        {"compression": "zstd", "use_dictionary": False},
        {"version": "1.0"},
        {"data_page_version": "2.0", "use_dictionary": False, "column_encoding": delta},
    ):
        files.write_table(table, path, **options)
        seeds.append(path.read_bytes())

    def read(data: bytes) -> None:
        path.write_bytes(data)
        _read(path, "parquet", "jsonl")

    return Target("parquet", seeds, read, _parquet_mutation)


def _parquet_mutation(data: bytes, chance: Random) -> bytes:
    """Change bytes, or a number that the footer or a page's header claims."""
    claims = [at + 1 for at in range(4, len(data) - 9) if data[at] in (0x15, 0x16)]
    if not claims or chance.random() < 0.4:
        return mutate_bytes(data, chance)
    at = end = chance.choice(claims)
    while data[end] & 128 and end < len(data) - 9:
        end += 1
    number, claim = chance.choice(EDGES) & ((1 << 64) - 1), bytearray()
    while number >= 128:
        claim.append(number & 127 | 128)
        number >>= 7
    made = data[:at] + bytes([*claim, number]) + data[end + 1 :]
    footer_bytes = int.from_bytes(data[-8:-4], "little")
    if at >= len(data) - 8 - footer_bytes:
        footer_bytes = (footer_bytes + len(made) - len(data)) & 0xFFFFFFFF
    return made[:-8] + footer_bytes.to_bytes(4, "little") + made[-4:]


def sqlite(sandbox: Path) -> Target:
    path, seeds = sandbox / "rows.db", []
    for extra in (
        "",
        "CREATE VIEW v AS SELECT input FROM t",
        "CREATE TABLE w(k PRIMARY KEY, input) WITHOUT ROWID",
    ):
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("PRAGMA page_size=512")
            connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, input TEXT, n REAL, b BLOB)")
            rows = [(1, "the disk", 0.5, b"x"), (2, "é", None, None), (9, "z" * 700, 1e300, b"")]
            connection.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", rows)
            connection.execute(extra)
        seeds.append(path.read_bytes())

    def read(data: bytes) -> None:
        for left in sandbox.glob("rows.db*"):
            left.unlink()
        path.write_bytes(data)
        _read(path, "sqlite", "jsonl")

    return Target("sqlite", seeds, read, _pages)


def _pages(data: bytes, chance: Random) -> bytes:
    """Change a database's header, a page's header and its cells, or its schema's text."""
    if len(data) < 600 or chance.random() < 0.3:
        return mutate_bytes(data, chance)
    made = bytearray(data)
    match chance.randrange(3):
        case 0:
            at = chance.choice((16, 18, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 92, 96))
            made[at : at + 4] = (chance.choice(EDGES) & 0xFFFFFFFF).to_bytes(4, "big")
        case 1:
            page = 512 * chance.randrange(len(made) // 512)
            at = (page or 100) + chance.randrange(20)
            made[at : at + 2] = (chance.choice(EDGES) & 0xFFFF).to_bytes(2, "big")
        case 2:
            at = data.find(b"CREATE", chance.randrange(512)) + chance.randrange(60)
            made[at : at + 4] = chance.choice((b"view", b"INT(", b"AS (", b"','x", b"\xff\xfe\0\0"))
    return bytes(made)
