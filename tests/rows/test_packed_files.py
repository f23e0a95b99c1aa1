"""Rows of files that are packed: what is made of them is what is made of the plain file."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import shutil
import sys
import tracemalloc
import zipfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from row_files import interrupted, objects, wait_for, write_rows
from shell import Done, Paw, inside, paw, start
from test_run import PROGRAM, Shouting, map_to

from paw_mlx import Function
from paw_mlx.errors import FormatError
from paw_mlx.rows import packing, source
from paw_mlx.rows.filter import filter_lines
from paw_mlx.rows.formats import open_reader
from paw_mlx.rows.packing import Unpacked
from paw_mlx.rows.run import RowFiles
from paw_mlx.rows.source import open_input
from paw_mlx.rows.suffixes import PACKINGS
from paw_mlx.rows.target import part_of
from paw_mlx.runner import Options

SHEET = b"id,text\n1,picnic\n2,the disk\n"


def unzstd(data: bytes) -> bytes:
    return pa.CompressedInputStream(pa.BufferReader(data), "zstd").read()


def zstd(data: bytes) -> bytes:
    return pa.Codec("zstd").compress(data, asbytes=True)


PACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".zst": zstd}
UNPACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.decompress, ".zst": unzstd}
packings = pytest.mark.parametrize("packing_", [*PACK])


@packings
@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".csv", ".tsv"])
def test_packed_in_and_out_is_as_the_plain_file(
    run: Paw, tmp_path: Path, packing_: str, suffix: str
) -> None:
    if suffix == ".tsv":
        file = tmp_path / "rows.tsv"
        file.write_text("id\ttext\n1\tpicnic\n2\tthe, disk\n3\n")
    else:
        file = write_rows(tmp_path / f"rows{suffix}", 30)
    packed = tmp_path / f"rows{suffix}{packing_}"
    packed.write_bytes(PACK[packing_](file.read_bytes()))
    plain, out = tmp_path / f"plain{suffix}", tmp_path / f"out{suffix}{packing_}"
    assert run(file, "-o", plain).returncode == 1  # some rows fail, and are kept
    done = run(packed, "-o", out)
    assert (done.returncode, "failed" in done.stderr) == (1, True)
    assert UNPACK[packing_](out.read_bytes()) == plain.read_bytes()
    assert run(packed).stdout == plain.read_bytes()
    first = out.read_bytes()
    run(packed, "-o", out)
    assert out.read_bytes() == first
    assert packing_ == ".zst" or first[4:8] == bytes(4)  # no time, so another day's bytes are these
    assert not [*tmp_path.glob("*.part*")]


@packings
def test_several_members_blanks_marks_and_returns_are_one_text(
    run: Paw, fn: Function, tmp_path: Path, packing_: str
) -> None:
    pack, skipped = PACK[packing_], bytes.fromhex("502a4d1804000000") + b"skip"
    text = "\ufefftext\r\npicnic\r\n".encode()
    data = pack(text) + pack(b"") + pack("\ufeffserver".encode())
    data += bytes(7) if packing_ == ".gz" else skipped  # what tapes and pzstd leave
    (tmp_path / f"a.csv{packing_}").write_bytes(data)
    out = tmp_path / "out.jsonl"
    assert run(tmp_path / f"a.csv{packing_}", "-o", out).returncode == 0
    assert [row["text"] for row in objects(out.read_bytes())] == ["picnic", "server"]


@packings
def test_no_rows_are_no_error(run: Paw, tmp_path: Path, packing_: str) -> None:
    for data in (b"", PACK[packing_](b"")):
        (tmp_path / f"a.txt{packing_}").write_bytes(data)
        out = tmp_path / f"out.txt{packing_}"
        assert run(tmp_path / f"a.txt{packing_}", "-o", out).returncode == 0
        assert UNPACK[packing_](out.read_bytes()) == b""


@packings
def test_what_a_file_holds_counts_more_than_its_name(
    run: Paw, tmp_path: Path, packing_: str
) -> None:
    (tmp_path / "a.csv").write_bytes(SHEET)
    expected = run(tmp_path / "a.csv").stdout
    data = PACK[packing_](SHEET)
    for name, words in [
        ("b.csv", []),
        ("b.csv.gz", []),
        ("b.CSV.ZST", []),
        ("b.bin", ["--format", "csv"]),
        ("b.json.gz", ["--format", "csv"]),
        (f"b{packing_}", ["--format", "csv"]),
    ]:
        (tmp_path / name).write_bytes(data)
        assert run(tmp_path / name, *words).stdout == expected, name


def test_standard_input_may_be_a_packed_file(
    folder: Path, options: list[object], tmp_path: Path
) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(SHEET))
    with (tmp_path / "a.gz").open("rb") as file:
        words = ["map", folder / "one.paw", "-", "--format", "csv", *options]
        with start(*words, stdin=file) as process:
            assert process.communicate(timeout=60)[0].startswith(b"id,text,output,error\n1,picnic")


def zipped(data: bytes) -> bytes:
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a.csv", data)
        return file.getvalue()


@pytest.mark.parametrize(
    ("data", "what", "hint"),
    [
        (gzip.compress(SHEET), "packed with gzip", "`gunzip -c FILE | paw-mlx …`"),
        (zstd(SHEET), "packed with zstd", "`unzstd -c FILE | paw-mlx …`"),
        (bz2.compress(SHEET), "packed with bzip2", "`bunzip2 -c FILE | paw-mlx …`"),
        (lzma.compress(SHEET), "packed with xz", "`unxz -c FILE | paw-mlx …`"),
        (zipped(SHEET), "a zip archive", "`unzip -p FILE | paw-mlx …`"),
        (b"SQLite format 3\0\x10\0", "SQLite", "Name the file itself"),
        (b"PAR1\x15\x04\x15", "Parquet", "Name the file itself"),
        (SHEET.decode().encode("utf-16"), "UTF-16", "iconv"),
    ],
    ids=["gzip", "zstd", "bzip2", "xz", "zip", "sqlite", "parquet", "utf-16"],
)
def test_a_pipe_of_what_is_no_text_gets_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: Any, run: Paw, data: bytes, what: str, hint: str
) -> None:
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    with open(read, "rb") as stdin, monkeypatch.context() as patch:  # noqa: PTH123 (a descriptor)
        patch.setattr(sys, "stdin", stdin)
        done = run("-")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(f"error: standard input is {what}\nhint: ")
    assert hint in done.stderr


def damaged(packing_: str) -> dict[str, tuple[bytes, str, int]]:
    """Files that cannot be read to their end, what is said of them, and rows before the damage."""
    noise, pack = Random(0), PACK[packing_]
    rows = b"".join(b"%d,%s\n" % (i, noise.randbytes(9).hex().encode()) for i in range(8000))
    whole = pack(b"id,text\n" + rows)
    cut = whole[: len(whole) * 3 // 4]
    if packing_ == ".gz":
        flipped = whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:]
        return {
            "cut": (cut, "ended before the end-of-stream", 5000),
            "flipped": (flipped, "CRC check failed", 7500),
            "followed": (whole + b"and more", "Not a gzipped file", 7500),
        }
    return {
        "cut": (cut, "Truncated compressed stream", 2500),
        "flipped": (whole + b"X" + pack(rows)[1:], "Unknown frame descriptor", 5000),
        "followed": (whole + b"and more", "Unknown frame descriptor", 5000),
    }


@packings
@pytest.mark.parametrize("how", ["cut", "flipped", "followed"])
def test_damage_is_one_sentence_and_the_rows_before_it_are_kept(
    tmp_path: Path, packing_: str, how: str
) -> None:
    data, reason, least = damaged(packing_)[how]
    file, out = tmp_path / f"a.csv{packing_}", tmp_path / "out.csv"
    file.write_bytes(data)
    name = PACKINGS[packing_]
    sentence = rf"a.csv{packing_} is no sound {name} file after [\d,]+ bytes of what it holds: "
    with pytest.raises(FormatError, match=sentence) as raised:
        map_to(file, out, most=99_999)
    assert reason in str(raised.value)
    unpack, kept = raised.value.hints
    assert "FILE | paw-mlx …`" in unpack
    assert "go on with --resume" in kept
    assert part_of(out).read_text().count("\n") > least


@packings
def test_what_is_packed_by_its_name_alone_is_said(run: Paw, tmp_path: Path, packing_: str) -> None:
    file = tmp_path / f"a.csv{packing_}"
    file.write_bytes(SHEET)
    done = run(file)
    name = PACKINGS[packing_]
    assert (done.returncode, done.stdout) == (1, b"")
    assert f"{file} is no {name} file, though it is named so\nhint: If it is not" in done.stderr
    (tmp_path / f"a.txt{packing_}").write_bytes(PACK[packing_](PACK[packing_](SHEET)))
    assert f"is packed with {name}" in run(tmp_path / f"a.txt{packing_}").stderr  # within itself
    (tmp_path / f"a.txt{packing_}").write_bytes(PACK[packing_]("x".encode("utf-16")))
    assert (
        f"a.txt{packing_} is UTF-16\nhint: Convert it" in run(tmp_path / f"a.txt{packing_}").stderr
    )


@packings
@pytest.mark.parametrize("refused", [0, 3000])
def test_a_disk_that_refuses_is_no_damage(packing_: str, refused: int) -> None:
    class Refusing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() >= refused:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(min(size or 0, 1000))

    unpacked = Unpacked(Refusing(PACK[packing_](os.urandom(9000))), PACKINGS[packing_], "a")
    with pytest.raises(OSError, match="Input/output error") as raised:
        deque(iter(lambda: unpacked.read(1 << 16), b""))
    assert not isinstance(raised.value, FormatError)


@packings
def test_a_line_that_unpacks_to_very_much_is_a_row_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packing_: str
) -> None:
    monkeypatch.setattr(source, "MAX_LINE_BYTES", 1 << 20)
    file, pack = tmp_path / f"a.txt{packing_}", PACK[packing_]
    file.write_bytes(pack(b"picnic\n") + pack(bytes(40_000_000)) * 2 + pack(b"\npicnic\n"))
    assert file.stat().st_size < 100_000
    tracemalloc.start()
    try:
        with open_input(file) as given:
            rows = [*open_reader("lines", given, None)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [row and row.text[:9] for row in rows] == ["picnic", "\0" * 9, "picnic"]
    errors = [str(row.error) for row in rows if row and row.error]
    assert errors == ["a line of 80,000,001 bytes, of which 1,024 are kept"]
    assert peak < 8e6


@pytest.mark.slow
def test_killed_and_resumed_is_undisturbed(
    folder: Path, options: list[object], tmp_path: Path
) -> None:
    file = write_rows(tmp_path / "rows.csv", 100)
    packed, out = tmp_path / "rows.csv.gz", tmp_path / "out.csv.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    command = ["map", folder / "one.paw", *options, "--batch-size", 6]
    paw(*command, file, "-o", tmp_path / "calm.csv")
    with start(*command, packed, "-o", out, stdin=None) as process:
        wait_for(process, out, 2000)
        process.kill()
    assert not out.exists()
    done = paw(*command, packed, "-o", out, "--resume")
    assert "that were there" in done.stderr
    assert gzip.decompress(out.read_bytes()) == (tmp_path / "calm.csv").read_bytes()


@packings
def test_an_output_that_is_not_packed_to_its_end_is_packed_again(
    run: Paw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packing_: str
) -> None:
    file, out = write_rows(tmp_path / "rows.jsonl", 40), tmp_path / f"out.jsonl{packing_}"
    run(file, "-o", out)
    calm = out.read_bytes()
    out.write_bytes(b"old")
    interrupted(run, monkeypatch, file, "-o", out)
    copy = shutil.copyfileobj

    def stop(source: Any, target: Any) -> None:
        copy(io.BytesIO(source.read(500)), target)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(packing.shutil, "copyfileobj", stop)
        assert run(file, "-o", out, "--resume").returncode == 130
    assert out.read_bytes() == b"old"
    assert part_of(out).read_bytes().count(b"\n") == 40
    done = run(file, "-o", out, "--resume")
    assert "0 rows in" in done.stderr
    assert "after 40 that were there" in done.stderr
    assert out.read_bytes() == calm
    assert {path.name for path in tmp_path.iterdir()} == {file.name, out.name}


def test_another_packed_file_is_another_job(
    run: Paw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, packed = write_rows(tmp_path / "rows.jsonl", 40), tmp_path / "rows.jsonl.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    out = tmp_path / "out.jsonl"
    interrupted(run, monkeypatch, packed, "-o", out)
    packed.write_bytes(gzip.compress(file.read_bytes() + b'"one more"\n'))
    done = run(packed, "-o", out, "--resume")
    assert f"is of another job: {packed} has changed since" in done.stderr


def test_what_packs_is_missing_before_the_first_row_is_computed(
    run: Paw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = write_rows(tmp_path / "rows.txt", 3), tmp_path / "out.txt.zst"
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = run(file, "-o", out)
    assert (done.returncode, done.stdout) == (1, b"")
    assert f"{out} needs pyarrow, which is not installed\nhint: `pip install" in done.stderr
    (tmp_path / "a.txt").write_bytes(zstd(b"picnic"))
    assert f"{tmp_path / 'a.txt'} needs pyarrow" in run(tmp_path / "a.txt").stderr
    assert {path.name for path in tmp_path.iterdir()} == {"rows.txt", "a.txt"}
    run(file, "-o", tmp_path / "out.txt.gz")  # Python packs this itself
    assert gzip.decompress((tmp_path / "out.txt.gz").read_bytes()).count(b"\n") == 3


@packings
def test_filter_reads_packed_files_too(tmp_path: Path, packing_: str) -> None:
    file = tmp_path / "a.log"
    file.write_bytes(PACK[packing_](b"picnic\nserver\npicnic\n"))
    with open_input(file) as lines:
        found = filter_lines(Shouting(), PROGRAM, lines, ["picnic"], Options())
        assert [outcome.item.number for outcome, keep in found if keep] == [1, 3]


def test_ranked_rows_are_packed_too(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any
) -> None:
    file, call = write_rows(tmp_path / "rows.csv", 9), inside(monkeypatch, capfdbinary)

    def rank(out: Path) -> Done:
        words = ["--interpreter", folder / "base", "--labels", "good,bad"]
        return call("rank", folder / "one.paw", file, *words, "-o", out)

    assert rank(tmp_path / "out.csv").returncode == rank(tmp_path / "out.csv.gz").returncode
    packed = (tmp_path / "out.csv.gz").read_bytes()
    assert gzip.decompress(packed) == (tmp_path / "out.csv").read_bytes()


@packings
def test_how_many_rows_there_will_be_is_told_of_packed_files_too(
    tmp_path: Path, packing_: str
) -> None:
    file = tmp_path / f"a.txt{packing_}"
    file.write_bytes(PACK[packing_](b"".join(b"row %d\n" % i for i in range(1000, 9000))))
    with open_input(file) as given:
        files = RowFiles.open(given)
        told = [files.num_rows_after(0) for _ in files.reader]
    assert all(total and 7000 <= total <= 9000 for total in told[100:])
    assert told[-1] == 8000
