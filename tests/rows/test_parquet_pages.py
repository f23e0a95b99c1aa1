"""Parquet files whose pages lie about their sizes, or burst: refused in little memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from parquet_rows import every_type, read_apart, rows_of, signed, varint, write
from pyarrow import parquet as pq
from pyarrow.parquet import encryption

from paw_mlx.errors import FormatError
from paw_mlx.rows.parquet.source import open_parquet
from paw_mlx.rows.parquet.thrift import BOOL, I32, I64, Compact, ListOf

MB = 1 << 20
PROMISED = 512 * MB
CLAIMED = 737_000_000
HEAD = 4  # the first page's header, after the magic


def lie(path: Path, *, unpacked: int | None = None, packed: int | None = None) -> Path:
    """Change what the first page's header claims: a kind, then two sizes."""
    data = path.read_bytes()
    assert data[HEAD : HEAD + 3] in (b"\x15\x00\x15", b"\x15\x06\x15")
    ends = [HEAD + 3]
    for _ in range(2):
        end = ends[-1]
        while data[end] & 128:
            end += 1
        ends.append(end + 2)  # the next field's head, too
    old = data[ends[0] : ends[1] - 1], data[ends[1] : ends[2] - 1]
    sizes = [
        was if claim is None else signed(claim)
        for was, claim in zip(old, (unpacked, packed), strict=True)
    ]
    path.write_bytes(data[: ends[0]] + sizes[0] + b"\x15" + sizes[1] + data[ends[2] - 1 :])
    return path


def simple(path: Path, **how: Any) -> Path:
    """One column of two texts, in one page."""
    how = {"use_dictionary": False, "write_statistics": False, "compression": "snappy"} | how
    return write(path, {"text": ["a", "b"]}, **how)


def burst(path: Path, columns: dict[str, Any], **how: Any) -> Path:
    """A file of a few KB whose pages are large."""
    write(path, columns, compression="zstd", write_statistics=False, **how)
    assert path.stat().st_size < 50_000
    return path


def read_all(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    with open_parquet(path) as source:
        schema = pa.schema([one for one in source.schema if columns is None or one.name in columns])
        schema = schema.with_metadata(source.schema.metadata)
        return pa.Table.from_batches(list(source.batches(columns)), schema)


def refusal(path: Path) -> FormatError:
    with pytest.raises(FormatError) as caught:
        read_all(path)
    assert str(caught.value).startswith(str(path))
    return caught.value


@pytest.mark.slow
def test_no_page_takes_more_memory_than_was_promised(tmp_path: Path) -> None:
    large = "x" * (110 * MB)
    made = [
        lie(simple(tmp_path / "packed.parquet"), packed=CLAIMED),
        lie(simple(tmp_path / "unpacked.parquet"), unpacked=CLAIMED),
        lie(simple(tmp_path / "v2.parquet", data_page_version="2.0"), packed=CLAIMED),
        burst(tmp_path / "page.parquet", {"text": ["a"], "b": [large]}, use_dictionary=False),
        burst(tmp_path / "dictionary.parquet", {"text": ["a"], "b": [large]}),
        burst(tmp_path / "input.parquet", {"text": [large]}),
        burst(
            tmp_path / "columns.parquet",
            {"text": ["a"], **{f"c{i}": [large[: 10 * MB]] for i in range(12)}},
            use_dictionary=False,
        ),
        burst(
            tmp_path / "rows.parquet",
            {"text": ["a"] * 4, "b": [large[: 15 * MB]] * 4},
            use_dictionary=False,
        ),
    ]
    words, more = read_apart(tmp_path, made)
    assert more < PROMISED
    assert words == ["refused"] * 14 + ["read"] * 2


def test_what_a_page_claims_is_held_against_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    error = refusal(lie(simple(path), packed=CLAIMED))
    assert "page 1 in the column 'text' of row group 1 claims 737,000,000 bytes, and " in str(error)
    error = refusal(lie(simple(path), unpacked=CLAIMED))
    assert "row group 1 has pages that take 737,000,000 at once, and 100,663,296 is" in str(error)
    assert error.hints == ["If it is sound, write it anew with smaller pages, or shorter lists."]
    for sizes in ({"packed": -1}, {"unpacked": -5}):
        error = refusal(lie(simple(path), **sizes))
        assert "page 1 in the column 'text' of row group 1 has no sizes, or less" in str(error)
    assert "of 32 bits" in str(refusal(lie(simple(path), packed=1 << 40)))


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"\x15\x00\x00", "it lacks the sizes"),
        (b"\x15\x00\x15\x02\x15\x02\x00", "has no sizes, or less than none"),
        (b"\x15\x00\x15\x02\x15\x02\x05\x06\x02", "a field 3 stands there twice"),
        (b"\x15\x00\x16\x02\x15\x02\x00", "a field is of kind 6"),
        (b"\xff\x00", "nothing is of kind 15"),
        (b"\xc8\xff\xff\xff\xff\x07", "it has no end"),
        (b"\xfc" * 100, "structs stand in each other"),
    ],
)
def test_a_header_that_is_none_is_told(tmp_path: Path, header: bytes, said: str) -> None:
    path = simple(tmp_path / "in.parquet", compression="none")
    write(path, {"text": ["a" * 300] * 2}, compression="none", use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[HEAD : HEAD + len(header)] = header
    path.write_bytes(data)
    error = refusal(path)
    assert "page 1 in the column 'text' of row group 1" in str(error)
    assert said in str(error)


def test_a_row_larger_than_a_line_and_than_its_file_is_refused(tmp_path: Path) -> None:
    path = burst(tmp_path / "in.parquet", {"text": ["a", "b"], "own": ["c", "d" * (17 * MB)]})
    error = refusal(path)
    assert f"a file of {path.stat().st_size:,} bytes, and after 1 rows of a row gro" in str(error)
    assert read_all(path, ["text"]).to_pydict() == {"text": ["a", "b"]}
    incompressible = os.urandom(17 * MB)
    write(path, {"text": ["a"], "own": [incompressible]})
    assert read_all(path)["own"].to_pylist() == [incompressible]


def test_a_large_text_of_a_dictionary_is_held_a_few_times(tmp_path: Path) -> None:
    """Many rows are short, so that as many as ever would be read at once."""
    chosen = pa.array([0] * 12 + [1] * 20_000)
    column = pa.array(["x" * (15 * MB), ""]).take(chosen)
    path = burst(tmp_path / "in.parquet", {"text": ["a"] * len(chosen), "own": column})
    with open_parquet(path) as source:
        assert max(batch.nbytes for batch in source.batches()) < 100 * MB


def test_a_dictionary_that_claims_many_texts_is_refused(tmp_path: Path) -> None:
    path = simple(tmp_path / "in.parquet", use_dictionary=True)
    data = path.read_bytes()
    at = data.index(b"\x4c\x15") + 2
    assert data[at : at + 1] == signed(2)
    path.write_bytes(data[:at] + signed(10_000_000) + data[at + 1 :])
    assert "has pages that take 200,000,0" in str(refusal(path))


def test_a_category_may_have_more_values_than_a_line_has_room(tmp_path: Path) -> None:
    names = pa.array([f"{number:06}" * 15 for number in range(200_000)])
    column = pa.DictionaryArray.from_arrays(pa.array(range(12)), names)
    path = write(tmp_path / "in.parquet", {"text": ["a"] * 12, "own": column}, compression="zstd")
    assert path.stat().st_size < 16 * MB < names.nbytes
    with open_parquet(path) as source:
        found = [batch.column("own").to_pylist() for batch in source.batches()]
    assert [one for batch in found for one in batch] == names[:12].to_pylist()


def test_rows_of_many_large_pages_are_held_a_few_at_a_time(tmp_path: Path) -> None:
    columns = {"text": ["a"] * 10, "own": ["x" * (15 * MB)] * 10}
    path = tmp_path / "in.parquet"
    burst(path, columns, use_dictionary=False, data_page_size=MB, write_batch_size=1)
    with open_parquet(path) as source:
        total = signed(source.meta.row_group(0).total_byte_size)
    data = path.read_bytes()
    assert total in data
    # As if they were small: as many at once as of any file.
    path.write_bytes(data.replace(total, b"\x80" * (len(total) - 1) + b"\x00"))
    with open_parquet(path) as source:
        assert max(batch.nbytes for batch in source.batches()) < 100 * MB
    assert read_all(path, ["text"]).num_rows == 10


def test_columns_that_share_their_pages_are_refused(tmp_path: Path) -> None:
    """Nobody writes them, and a small file of many would be read for ever."""
    columns = {name: ["a" * 40] * 2 for name in ("text", "b", "c", "d", "e")}
    path = write(tmp_path / "in.parquet", columns, compression="none", use_dictionary=False)
    size = pq.read_metadata(path).row_group(0).column(0).total_compressed_size
    data = path.read_bytes()
    claimed = b"\x16" + signed(size), b"\x16" + signed(len(data) - 500)
    assert len(claimed[0]) == len(claimed[1])
    path.write_bytes(data.replace(*claimed))
    error = refusal(path)
    assert f"{len(data):,} bytes claim columns of {5 * (len(data) - 500):,}" in str(error)


def test_a_page_that_nobody_reads_is_not_asked(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    write(path, {"own": ["a", "b"], "text": ["c", "d"]}, use_dictionary=False)
    lie(path, packed=CLAIMED)
    # The header has grown by some bytes, and what follows it with it: the footer tells of before.
    data = path.read_bytes()
    grown = len(signed(CLAIMED)) - 1
    path.write_bytes(data[: HEAD + 20] + data[HEAD + 20 + grown :])
    assert "claims 737,000,000 bytes" in str(refusal(path))
    assert read_all(path, ["text"])["text"].to_pylist() == ["c", "d"]


class OneKey(encryption.KmsClient):
    """Keeps all keys by writing them down."""

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> str:
        return key_bytes.hex()

    def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
        return bytes.fromhex(wrapped_key)


def test_what_is_not_encrypted_is_read_beside_what_is(tmp_path: Path) -> None:
    path, whole = tmp_path / "in.parquet", pa.table({"text": ["a"], "own": ["b"]})
    keys = encryption.EncryptionConfiguration(
        footer_key="one", column_keys={"two": ["own"]}, plaintext_footer=True
    )
    secrets = encryption.CryptoFactory(lambda _: OneKey()).file_encryption_properties(
        encryption.KmsConnectionConfig(), keys
    )
    write(path, whole, encryption_properties=secrets)
    assert read_all(path, ["text"])["text"].to_pylist() == ["a"]
    assert "encrypted the column 'own' of row group 1, and no key can be" in str(refusal(path))


CODECS = ["none", "snappy", "gzip", "zstd", "lz4", "brotli"]
ENCODINGS: dict[str, dict[str, Any]] = {
    "dictionary": {},
    "plain": {"use_dictionary": False},
    "delta": {
        "use_dictionary": False,
        "column_encoding": {
            "text": "DELTA_BYTE_ARRAY",
            "long": "DELTA_LENGTH_BYTE_ARRAY",
            "id": "DELTA_BINARY_PACKED",
            "half": "BYTE_STREAM_SPLIT",
        },
    },
}


def table(num_rows: int) -> pa.Table:
    """Rows whose statistics make headers long, with nulls, and lists."""
    numbers = range(num_rows)
    columns = {
        "text": [None if i % 11 == 3 else f"the disk {i % 50}" for i in numbers],
        "long": [f"{i:04} " * (500 if i % 97 == 0 else 3) for i in numbers],
        "id": list(numbers),
        "half": [i / 2 for i in numbers],
    }
    return pa.table(columns)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_sound_files_of_all_kinds_are_read_as_they_are(
    tmp_path: Path, codec: str, version: str, encoding: str
) -> None:
    how = {"compression": codec, "data_page_version": version, **ENCODINGS[encoding]}
    whole = table(3_000)
    for more in (
        {},
        {"data_page_size": 64, "write_batch_size": 7, "row_group_size": 700},
        {"write_page_index": True, "write_page_checksum": True, "row_group_size": 1_700},
    ):
        path = write(tmp_path / "in.parquet", whole, **how, **more)
        assert read_all(path) == whole
        assert read_all(path, ["text"])["text"] == whole["text"]


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("num_rows", [0, 6, 600])
def test_sound_files_of_every_type_are_read_as_they_are(
    tmp_path: Path, version: str, num_rows: int
) -> None:
    whole = pa.concat_tables([every_type()] * 100).slice(0, num_rows)
    how = {"data_page_version": version, "data_page_size": 100, "write_batch_size": 10}
    path = write(tmp_path / "in.parquet", whole, row_group_size=250, **how)
    found = read_all(path)
    assert repr(rows_of(found)) == repr(rows_of(pq.read_table(path)))
    assert found.num_rows == num_rows


def test_groups_without_rows_and_many_groups_are_read(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    whole = table(3)
    with pq.ParquetWriter(path, whole.schema) as writer:
        for number in range(200):
            writer.write_table(whole.slice(0, number % 3))
    assert read_all(path).num_rows == sum(number % 3 for number in range(200))
    with open_parquet(path) as source:
        assert source.meta.num_row_groups == 200


def test_headers_are_found_with_little_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large file costs its headers, some hundred bytes a page."""
    path = write(tmp_path / "in.parquet", {"text": ["a"] * 30, "own": [os.urandom(MB)] * 30})
    read_bytes = 0
    pread = os.pread

    def counted(descriptor: int, size: int, at: int) -> bytes:
        nonlocal read_bytes
        data = pread(descriptor, size, at)
        read_bytes += len(data)
        return data

    with open_parquet(path) as source, monkeypatch.context() as patch:
        patch.setattr(os, "pread", counted)
        assert sum(batch.num_rows for batch in source.batches()) == 30
    assert read_bytes < 20_000


SHAPE = {1: I32, 2: {1: I64}, 3: ListOf({1: I32}, lambda found: found.get(1))}


def test_fields_are_found_among_all_that_may_stand_there() -> None:
    others = (
        b"\x91\x12\x13\x07\x14\x02\x15\x80\x01\x16\x02\x17"  # truths, integers
        + b"12345678\x18\x03abc"  # a double, a text
        + b"\x19\x28\x01x\x01y\x1a\x31\x01\x02\x01"  # a list of texts, a set of truths
        + b"\x1b\x00\x1b\x01\x8c\x01z\x15\x02\x00"  # maps: an empty one, texts to structs
        + b"\x19\xf7\x10" + b"8" * 128  # sixteen doubles
        + b"\x08\x80\x7d\x01q"  # a number of its own
    )  # fmt: skip
    data = b"\x15\x05\x1c\x16\x02\x00\x19\x2c\x15\x08\x00\x00" + others + b"\x00rest"
    compact = Compact(data)
    assert compact.read(SHAPE) == {1: -3, 2: {1: 1}, 3: [4, None]}
    assert data[compact.at :] == b"rest"
    assert Compact(b"\x11\x12\x00").read({1: BOOL, 2: BOOL}) == {1: True, 2: False}
    for end in range(compact.at):
        with pytest.raises(IndexError):
            Compact(data[:end]).read(SHAPE)


@pytest.mark.parametrize(
    "data",
    [
        b"\x15\x02\x05\x02\x04\x00",  # a field 1 twice
        b"\x15" + varint(1 << 33) + b"\x00",  # more than its bits
        b"\x05" + signed(1 << 16) + b"\x02\x00",  # a field 65,536, or 0
        b"\x05" + signed((1 << 15) - 1) + b"\x02\x15\x02\x00",  # 32,768, or -32,768
        b"\x85" + b"\x80" * 10 + b"\x00",  # a number without an end
        b"\x98" + varint(1 << 32) + b"\x00",  # a text of 4 GB, or of none
        b"\x16\x02\x00",  # a field of another kind
        b"\x39\x25\x02\x04\x00",  # a list of other things
        b"\x9d\x00",  # a kind that nobody knows
    ],
)
def test_what_may_mean_two_things_is_no_struct(data: bytes) -> None:
    with pytest.raises(ValueError):
        Compact(data).read(SHAPE)
