"""Parquet files that are damaged, cut short, encrypted or made to harm: one sentence, or rows."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pyarrow as pa
import pytest
from parquet_rows import every_type, rows_of, varint, write
from pyarrow import parquet as pq
from sqlite_rows import shout

from paw_mlx.errors import FormatError, PawError
from paw_mlx.rows.target import part_of, side_of

NUM_COPIES = 300


def simple() -> pa.Table:
    return pa.table(
        {
            "id": pa.array(range(50)),
            "text": [f"some words {i % 7}" for i in range(50)],
            "list": [[i, None] for i in range(50)],
            "category": pa.array([f"x{i % 3}" for i in range(50)]).dictionary_encode(),
        }
    )


def remains(file: Path, out: Path) -> PawError | None:
    """Map a file; return what is wrong with it, if that is what comes of it."""
    for path in (out, part_of(out), side_of(part_of(out))):
        path.unlink(missing_ok=True)
    error: PawError | None = None
    try:
        shout(file, out, field="text")
    except PawError as found:
        error = found
    if error is not None:
        assert "\n" not in str(error)
        assert len(str(error)) < 300 + 2 * len(str(file))
        assert not out.exists()
    return error


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["v1", "v2", "types"])
def test_a_flipped_bit_is_one_sentence_or_the_rows_that_are_there(
    tmp_path: Path, kind: str
) -> None:
    file, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    if kind == "types":
        write(file, every_type(), row_group_size=4, write_page_checksum=True)
    else:
        version = "1.0" if kind == "v1" else "2.0"
        how = {"data_page_version": version, "compression": "none" if kind == "v1" else "snappy"}
        write(file, simple(), row_group_size=20, write_page_checksum=True, **how)
    whole, num_whole, sentences = file.read_bytes(), 0, set[str]()
    (footer_bytes,) = struct.unpack("<I", whole[-8:-4])
    for seed in range(NUM_COPIES // 3):
        chance, data = random.Random(seed), bytearray(whole)
        begin = len(data) - 8 - footer_bytes if seed % 2 else 0
        for _ in range(chance.choice([1, 1, 3])):
            data[chance.randrange(begin, len(data))] ^= 1 << chance.randrange(8)
        file.write_bytes(data)
        error = remains(file, out)
        if isinstance(error, FormatError):
            sentences.add(str(error))
            assert str(error).startswith(str(file)), seed
        elif error is None:
            num_whole += 1
            own = pq.read_table(out)
            found = pq.read_table(file, page_checksum_verification=True)
            own = own.select(range(found.num_columns))
            assert repr(rows_of(own)) == repr(rows_of(found)), seed
    assert len(sentences) >= 6
    assert num_whole >= 3


def test_a_file_cut_anywhere_is_one_sentence(tmp_path: Path) -> None:
    file, out = write(tmp_path / "in.parquet", simple(), row_group_size=20), tmp_path / "o.jsonl"
    whole = file.read_bytes()
    for end in [*range(0, 16), *range(16, len(whole), 37), *range(len(whole) - 16, len(whole))]:
        file.write_bytes(whole[:end])
        error = remains(file, out)
        assert error is not None
        assert str(file) in str(error)
    assert "has lost its end" in str(error)
    assert error.hints == ["Get it anew."]


def test_what_stands_where_a_file_should_be_is_told(tmp_path: Path) -> None:
    file, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    for data, said in {
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123\n": "Git LFS pointer",
        b"<!doctype html><html></html>": "is a web page",
        b"text,id\na,1\n": "is no Parquet file",
        b"": "is no Parquet file",
        b"PAR1PAR1": "is no Parquet file",
        b"PAR1" + b"\0" * 20 + b"PAR1": "is no sound Parquet file",
        b"PAR1" + b"\0" * 20 + b"\xff\xff\xff\x7fPAR1": "32 bytes claim a footer of 2,147,483,647",
        b"PARE" + b"\0" * 20 + b"PARE": "is encrypted",
        b"PAR1" + b"\0" * 20 + b"PARE": "is encrypted",
    }.items():
        file.write_bytes(data)
        assert said in str(remains(file, out)), data
    with pq.ParquetWriter(file, pa.schema([])):
        pass
    assert "holds no columns" in str(remains(file, out))


def test_a_footer_is_not_believed_what_it_claims(tmp_path: Path) -> None:
    """A list of a million row groups, in thrift's compact protocol, is never allocated."""
    for claimed in (900_000, 1 << 30):
        size = bytes([0xFC]) + varint(claimed)
        footer = b"\x15\x02\x39" + size + b"\0" * 4096  # version 1, then a list of structs
        data = b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1"
        (tmp_path / "in.parquet").write_bytes(data)
        error = remains(tmp_path / "in.parquet", tmp_path / "out.parquet")
        assert "size limit" in str(error), error


def test_more_columns_than_arrow_has_room_for_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "in.parquet"
    names = ["text", *(f"c{number}" for number in range(20_000))]
    with pq.ParquetWriter(file, pa.schema([(name, pa.string()) for name in names])):
        pass
    error = remains(file, tmp_path / "out.parquet")
    assert "has 20,001 columns, and at most 20,000 are read" in str(error)
