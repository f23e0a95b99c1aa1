"""Rows without the command line: any runner, no printing, no MLX."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pytest
from limits import limited

from paw_mlx.errors import DiskError, FieldError, InputTooLong, OptionError, PawError
from paw_mlx.output import Labels
from paw_mlx.program import Program, Template
from paw_mlx.rows import part
from paw_mlx.rows.filter import filter_lines
from paw_mlx.rows.part import Part
from paw_mlx.rows.run import RowFiles, identity, is_complete, map_rows
from paw_mlx.rows.sink import Stream
from paw_mlx.rows.source import Input, open_input
from paw_mlx.rows.tally import Tally
from paw_mlx.rows.target import part_of
from paw_mlx.runner import Options, Result

PROGRAM = Program(Template("", ""), None, "nobody/nothing")
SHEET = "id,text\n1,picnic\n2,wrong\n3,picnic\n4,server\n"


class Shouting:
    """A runner that says its input in capitals, and takes no input `wrong`."""

    def __init__(self) -> None:
        self.max_in_flight, self.identity = 2, {"base": "none", "form": "air"}
        self.texts: list[str] = []

    def submit(self, program: Program, text: str, options: Options) -> Future[Result]:
        self.texts.append(text)
        future: Future[Result] = Future()
        if text == "wrong":
            future.set_exception(InputTooLong("too long"))
        else:
            future.set_result(Result(text.upper(), "stop", 0, 1, 1, 0.0, 0.0))
        return future

    def run(self, program: Program, text: str, options: Options) -> Result:
        return self.submit(program, text, options).result()

    def stream(self, program: Program, text: str, options: Options) -> Iterator[str]:
        yield self.run(program, text, options).text

    def cut_tokens(self, program: Program, text: str, options: Options) -> int:
        return 0

    def close(self) -> None:
        pass


def map_to(
    file: Path,
    output: Path,
    *,
    runner: Shouting | None = None,
    most: int = 99,
    unordered: bool = False,
    **how: Any,
) -> Tally:
    """Map a file onto another, or only its first rows."""
    runner, tally = runner or Shouting(), Tally()
    with open_input(file) as source:
        files = RowFiles.open(source, output, unordered=unordered)
        job = identity(runner, PROGRAM, files, Options())
        with (
            closing(Part(output, job, files.writer, resume=True)) as sink,
            closing(map_rows(runner, PROGRAM, files, sink, Options(), **how)) as found,
        ):
            for outcome in found:
                tally.add(outcome)
                if tally.num_rows == most:
                    break
    return tally


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    file = tmp_path / "rows.csv"
    file.write_text(SHEET)
    return file


def test_a_sheet_gains_outputs_and_errors_from_any_runner(sheet: Path, tmp_path: Path) -> None:
    runner, out = Shouting(), tmp_path / "out.csv"
    tally = map_to(sheet, out, runner=runner)
    assert runner.texts == ["picnic", "wrong", "server"]
    assert (tally.num_rows, tally.num_failed, tally.num_repeated) == (4, 1, 1)
    with out.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["output"] for row in rows] == ["PICNIC", "", "PICNIC", "SERVER"]
    assert [row["error"] for row in rows] == ["", "InputTooLong: too long", "", ""]
    with open_input(sheet) as source:
        assert is_complete(out, source)


def test_a_run_that_stops_goes_on_where_it_was(sheet: Path, tmp_path: Path) -> None:
    map_to(sheet, tmp_path / "calm.csv")
    out, runner = tmp_path / "out.csv", Shouting()
    map_to(sheet, out, most=3)
    assert part_of(out).read_text().count("\n") == 4
    assert map_to(sheet, out, runner=runner).num_rows == 1
    assert runner.texts == ["server"]
    assert out.read_bytes() == (tmp_path / "calm.csv").read_bytes()


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_run_without_order_goes_on_with_the_rows_it_lacks(
    sheet: Path, tmp_path: Path, suffix: str
) -> None:
    out, runner = tmp_path / f"out.{suffix}", Shouting()
    sheet.write_text("id,text\n4,picnic\n3,wrong\n2,picnic\n1,server\n")  # no number is its row's
    map_to(sheet, out, most=2, unordered=True)
    left = part_of(out).read_text().splitlines()[-2:]
    map_to(sheet, out, runner=runner, unordered=True)
    assert runner.texts == ["picnic", "server"]
    lines = out.read_text().splitlines()
    assert lines[:-2][-2:] == left
    if suffix == "jsonl":
        numbers = [json.loads(line)["row"] for line in lines]
    else:
        numbers = [int(row["row"]) for row in csv.DictReader(lines)]
    assert sorted(numbers) == [1, 2, 3, 4]


def test_an_error_that_stops_a_run_says_what_it_has_left(sheet: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    with pytest.raises(InputTooLong) as raised:
        map_to(sheet, out, stop=True)
    row, kept = raised.value.hints
    assert row.startswith("It is row 2's")
    assert kept == f"{part_of(out)} holds 1 row: go on with --resume."


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_disk_that_is_full_leaves_the_way_to_go_on(
    sheet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.csv"
    append = Part._append

    def fill(self: Part, data: bytes) -> None:
        if len(self) == 2:  # from here on the disk is full, when it is closed as well
            os.dup2(os.open("/dev/full", os.O_WRONLY), self._file.fileno())
        append(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(Part, "_append", fill)
        with pytest.raises(DiskError, match="No space left") as raised:
            map_to(sheet, out)
    assert raised.value.hints == [f"{part_of(out)} holds 2 rows: go on with --resume."]
    assert map_to(sheet, out).num_rows == 2


def test_an_output_that_was_cut_is_marked_and_counted(tmp_path: Path) -> None:
    class Cut(Shouting):
        def submit(self, program: Program, text: str, options: Options) -> Future[Result]:
            future: Future[Result] = Future()
            reason = "stop" if text == "whole" else "length"
            future.set_result(Result(text.upper(), reason, 0, 1, 1, 0.0, 0.0))
            return future

    file, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    file.write_text('"whole"\n"half"\n{"input": "half", "finish_reason": 1}\n')
    tally = map_to(file, out, runner=Cut())
    assert (tally.num_unended, tally.record["num_unended"]) == (2, 2)
    whole, half, own = [json.loads(line) for line in out.read_text().splitlines()]
    assert whole == {"input": "whole", "output": "WHOLE"}
    assert half == {"input": "half", "output": "HALF", "finish_reason": "length"}
    assert (own["finish_reason"], own["output_finish_reason"]) == (1, "length")


def test_what_makes_two_runs_the_same_is_named(sheet: Path, tmp_path: Path) -> None:
    with open_input(sheet) as source:
        files = RowFiles.open(source, tmp_path / "out.jsonl", field="text", output_field="said")
        job = identity(Shouting(), PROGRAM, files, Options(max_tokens=3, timeout_s=5.0))
    assert job.pop("input_head") == hashlib.sha256(SHEET.encode()).hexdigest()
    assert list(job.items()) == [
        ("program", PROGRAM.digest()),
        ("input", str(sheet)),
        ("input_bytes", len(SHEET)),
        ("format", "csv"),
        ("output_format", "jsonl"),
        ("columns", ["id", "text"]),
        ("output_field", "said"),
        ("unordered", False),
        ("base", "none"),
        ("form", "air"),
        ("max_tokens", 3),
        ("temperature", 0.0),
        ("seed", None),
        ("overflow", "error"),
        ("lookup", True),
        ("field", "text"),
    ]


def test_a_type_and_a_threshold_make_another_run(sheet: Path, tmp_path: Path) -> None:
    typed = replace(PROGRAM, output=Labels(("A", "B")))
    with open_input(sheet) as source:
        files = RowFiles.open(source, tmp_path / "out.jsonl", field="text", decided=True)
        plain = identity(Shouting(), PROGRAM, files, Options())
        job = identity(Shouting(), typed, files, Options(threshold=0.5, otherwise=""))
    assert job.pop("program") != plain.pop("program")
    assert {name: job[name] for name in job.keys() - plain.keys()} == {
        "output_type": {"type": "labels", "labels": ["A", "B"]},
        "threshold": 0.5,
        "otherwise": "",
    }
    assert plain["decided"] is True


def test_a_stream_gets_the_head_once_even_without_rows(sheet: Path, tmp_path: Path) -> None:
    for text, expected in [(SHEET, 5), ("id,text\n", 1)]:
        sheet.write_text(text)
        stream = io.BytesIO()
        with open_input(sheet) as source:
            files = RowFiles.open(source)
            sink = Stream(stream, "memory", files.writer.head)
            for _ in map_rows(Shouting(), PROGRAM, files, sink, Options()):
                pass
        lines = stream.getvalue().decode().splitlines()
        assert (lines[0], len(lines)) == ("id,text,output,error", expected)


def test_rows_to_come_are_told_by_the_bytes_that_were_read(tmp_path: Path) -> None:
    file = tmp_path / "rows.txt"
    file.write_text("0123456\n" * 50_000)
    with open_input(file) as source:
        files = RowFiles.open(source)
        assert files.num_rows_after(0) is None  # nothing was read
        rows = iter(files.reader)
        for _ in range(1000):
            next(rows)
        assert files.num_rows_after(0) == pytest.approx(50_000, rel=0.01)
        assert files.num_rows_after(30_000) == pytest.approx(20_000, rel=0.02)
        assert [*rows]
        assert (files.num_rows_after(0), files.num_rows_after(30_000)) == (50_000, 20_000)


@contextmanager
def piped(data: bytes) -> Iterator[tuple[Input, int]]:
    """Standard input, a pipe that has so much to read, and where to write more."""
    receiving, sending = os.pipe()
    os.write(sending, data)
    with os.fdopen(receiving) as stdin, pytest.MonkeyPatch.context() as patch, limited(60):
        patch.setattr(sys, "stdin", stdin)
        with open_input(None) as source:
            yield source, sending


def test_a_pipe_that_is_silent_has_not_ended() -> None:
    """Whoever waits for a row can be woken, to deliver what is ready meanwhile."""
    with piped(b"picnic\n") as (source, sending):
        files = RowFiles.open(source)
        rows = files.inputs(Stream(io.BytesIO(), "memory"))
        assert source.wake
        for text in (b"server\n", b"disk\n"):
            assert next(rows)
            source.wake()
            assert next(rows) is None
            os.write(sending, text)
        os.close(sending)
        assert [row and row[1] for row in rows] == ["disk"]
        assert files.num_rows_after(0) is None


def test_a_pipe_goes_on_where_it_was_if_it_begins_alike(tmp_path: Path) -> None:
    """It has no name and no size: the first row has to do."""

    def map_pipe(data: bytes, most: int = 99) -> list[str]:
        runner, out = Shouting(), tmp_path / "out.txt"
        with piped(data) as (source, sending):
            os.close(sending)
            files = RowFiles.open(source, out)
            job = identity(runner, PROGRAM, files, Options())
            with closing(Part(out, job, files.writer, resume=True)) as sink:
                found = map_rows(runner, PROGRAM, files, sink, Options())
                assert len([*islice(found, most)]) <= most
                found.close()
        return runner.texts

    map_pipe(b"picnic\nserver\ndisk\n", most=2)
    with pytest.raises(OptionError, match="its input began with another row"):
        map_pipe(b"server\npicnic\ndisk\n")
    assert map_pipe(b"picnic\nserver\ndisk\n") == ["disk"]
    assert (tmp_path / "out.txt").read_text() == "PICNIC\nSERVER\nDISK\n"


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv"])
def test_rows_may_be_written_in_any_other_format(sheet: Path, tmp_path: Path, suffix: str) -> None:
    """Fields that were spelt in one way are spelt in the other's."""
    out = tmp_path / f"out.{suffix}"
    sheet.write_text('id,text\n1,"a ""b"" \tc"\n')
    map_to(sheet, out)
    if suffix == "jsonl":
        (row,) = [json.loads(line) for line in out.read_text().splitlines()]
        row["error"] = ""
    else:
        delimiter = "\t" if suffix == "tsv" else ","
        (row,) = csv.DictReader(out.read_text().splitlines(), delimiter=delimiter)
    assert row == {"id": "1", "text": 'a "b" \tc', "output": 'A "B" \tC', "error": ""}


@pytest.mark.parametrize(
    ("refusal", "error"),
    [(BrokenPipeError(32, "gone"), BrokenPipeError), (OSError(28, "full"), DiskError)],
)
def test_a_stream_says_why_it_takes_no_more(refusal: OSError, error: type[OSError]) -> None:
    class Refusing(io.BytesIO):
        def flush(self) -> None:
            raise refusal

    with pytest.raises(error) as raised:
        Stream(Refusing(), "memory").write(1, b"x", False)
    assert isinstance(raised.value, PawError) == (error is DiskError)


def test_a_field_that_cannot_be_meant_is_an_error_of_its_own(sheet: Path) -> None:
    for names in ({"field": "no"}, {"output_field": "error"}):
        with open_input(sheet) as source, pytest.raises(FieldError) as raised:
            RowFiles.open(source, **names)
        assert isinstance(raised.value, OptionError)


@pytest.mark.parametrize(("on_error", "kept"), [("keep", [1, 2, 3]), ("drop", [1, 3])])
def test_lines_with_a_label_are_kept(tmp_path: Path, on_error: str, kept: list[int]) -> None:
    file = tmp_path / "a.log"
    file.write_text("picnic\nwrong\npicnic\nserver\n")
    with open_input(file) as source:
        labels = [" Picnic"]
        found = filter_lines(Shouting(), PROGRAM, source, labels, Options(), on_error=on_error)
        assert [outcome.item.number for outcome, keep in found if keep] == kept


def test_rows_and_functions_need_no_mlx() -> None:
    code = (
        "import json, sys, paw_mlx.rows.run, paw_mlx.rows.filter, paw_mlx.functions\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert {"mlx", "click", "tokenizers"}.isdisjoint(json.loads(done.stdout))


def test_rows_are_on_the_disk_before_they_take_the_outputs_place(
    sheet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a machine that loses its power has the name, and nothing in it."""
    map_to(sheet, tmp_path / "calm.csv")
    out, synced = tmp_path / "out.csv", []

    def fsync(number: int) -> None:
        assert not out.exists()
        synced.append(os.pread(number, 1 << 20, 0))

    monkeypatch.setattr(os, "fsync", fsync)
    map_to(sheet, out)
    assert out.read_bytes() == (tmp_path / "calm.csv").read_bytes() == synced[-1]


def test_a_part_that_another_run_finished_meanwhile_is_left_alone(
    sheet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its opening and its lock, and a third run began."""
    map_to(sheet, tmp_path / "calm.csv")
    out, lock, asked = tmp_path / "out.csv", part.lock, []

    def late(file: IO[bytes], path: Path, **how: Any) -> None:
        asked.append(path)
        if len(asked) == 1:
            path.replace(out)
            path.write_bytes(b"")
        lock(file, path, **how)

    monkeypatch.setattr(part, "lock", late)
    map_to(sheet, out)
    assert len(asked) == 2
    assert out.read_bytes() == (tmp_path / "calm.csv").read_bytes()
