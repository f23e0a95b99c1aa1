"""`paw-mlx map` among pipes, signals and terminals."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from row_files import wait_for, write_rows
from shell import SCRIPT, paw, start

from paw_mlx import Function


def test_a_pipe_is_answered_line_by_line(folder: Path, options: list[object], fn: Function) -> None:
    with start("map", folder / "one.paw", *options) as process:
        assert process.stdin
        assert process.stdout
        for text in ("picnic", "server"):
            process.stdin.write(text.encode() + b"\n")
            process.stdin.flush()
            expected = fn(text, max_tokens=8).replace("\r", "\\r").replace("\n", "\\n")
            assert process.stdout.readline().decode() == expected + "\n"
        process.stdin.close()
        assert process.wait(30) == 0


def test_a_mark_is_no_part_of_the_input(
    folder: Path, options: list[object], fn: Function, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("picnic", encoding="utf-8-sig")
    words = ["run", folder / "one.paw", "--file", tmp_path / "a.txt", *options]
    assert paw(*words).stdout.decode() == fn("picnic", max_tokens=8) + "\n"


def test_an_interrupt_keeps_the_rows_and_says_how_to_go_on(
    folder: Path, options: list[object], tmp_path: Path
) -> None:
    out = tmp_path / "out.txt"
    with start("map", folder / "one.paw", *options, "-o", out) as process:
        assert process.stdin
        process.stdin.write(b"picnic\n")
        process.stdin.flush()
        wait_for(process, out, 0)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr
        stderr = process.stderr.read().decode().strip()
    assert stderr == f"{out}.part holds 1 row: go on with --resume"


def test_a_file_as_standard_input_is_a_file(
    folder: Path, options: list[object], tmp_path: Path
) -> None:
    file = write_rows(tmp_path / "rows.txt", 60)
    before = file.read_bytes()
    with (
        file.open() as handle,
        start("map", folder / "one.paw", *options, "-o", file, stdin=handle) as process,
    ):
        _, stderr = process.communicate(timeout=60)
    assert (process.returncode, b"is the input, too" in stderr) == (1, True)
    assert file.read_bytes() == before


def test_nobody_needs_to_read_what_is_said(
    folder: Path, options: list[object], tmp_path: Path
) -> None:
    file, out = tmp_path / "rows.txt", tmp_path / "out.txt"
    file.write_bytes(b"picnic\n\xff\n" * 200)
    with start("map", folder / "one.paw", file, *options, "-o", out) as process:
        assert process.stderr
        process.stderr.readline()
        process.stderr.close()
        assert process.wait(60) == 1
    assert out.read_bytes().count(b"\n") == 400


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_behind_standard_output_is_one_sentence(
    folder: Path, options: list[object], tmp_path: Path
) -> None:
    file = write_rows(tmp_path / "rows.txt", 9)
    for name, more in (("map", []), ("filter", ["--on-error", "keep", "--keep", "x"])):
        command = [name, folder / "one.paw", file, *more, *options]
        with Path("/dev/full").open("wb") as full, start(*command, stdout=full) as process:
            _, stderr = process.communicate(timeout=60)
        error = stderr.decode().splitlines()[-1]
        assert error == "error: cannot write standard output: No space left on device"
        assert process.returncode == 1


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_closed_stream_is_an_empty_one(
    folder: Path, options: list[object], tmp_path: Path, closed: str
) -> None:
    file = [] if closed == "<&-" else [write_rows(tmp_path / "rows.jsonl", 0)]
    (tmp_path / "rows.jsonl").write_text('"picnic"\n')
    words = [*SCRIPT, "map", folder / "one.paw", *file, *options]
    words += [] if closed == ">&-" else ["-o", tmp_path / "out.jsonl"]
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", *map(str, words)]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    if closed != ">&-":
        assert (tmp_path / "out.jsonl").read_bytes().count(b"\n") == len(file)


def test_a_reader_that_has_had_enough_ends_it_quietly(
    folder: Path, options: list[object], tmp_path: Path
) -> None:
    file = write_rows(tmp_path / "rows.txt", 300)
    with start("map", folder / "one.paw", file, *options) as process:
        assert process.stdout
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr
        stderr = process.stderr.read().decode()
        assert process.wait(60) == 0
    assert all(line.startswith("row ") for line in stderr.splitlines())


# The line is drawn anew for every row, however quick they are.
ALWAYS_DRAWN = """
from paw_mlx.cli import voice; from paw_mlx.__main__ import main
voice.EVERY_S = 0
main()
"""


def test_a_terminal_sees_how_far_it_is(
    folder: Path, options: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shell.SCRIPT", [sys.executable, "-c", ALWAYS_DRAWN])
    file = write_rows(tmp_path / "rows.csv", 600)
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 50, 0, 0))
    command = ["map", folder / "one.paw", file, *options, "-o", tmp_path / "out.csv"]
    seen = b""
    with start(*command, stderr=end):
        os.close(end)
        with contextlib.suppress(OSError):  # once the other end is closed
            while data := os.read(terminal, 4096):
                seen += data
    os.close(terminal)
    drawn, _, last = seen.decode().rpartition("\r600 rows in")
    assert "600/600 rows" in drawn
    assert re.search(r"  \d+:\d\d:\d\d left", drawn)
    assert max(map(len, re.split(r"[\r\n]+", drawn))) == 49
    assert "rows/s" in last
