"""`paw-mlx filter`: the lines that matter, as they come."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from shell import Paw, inside, paw, start

from paw_mlx import Function, Interpreter, formats, load
from paw_mlx.rows import source

LINES = [f"{a} {b}" for a in ("the disk", "server", "picnic") for b in ("down", "full", "Friday")]
OPTIONS = ["--max-tokens", 1]  # few different outputs, as labels are


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filter")
    tiny.write_base(folder / "base", "qwen3")
    program = tiny.program("qwen3")
    formats.save(program, folder / "log.paw", dtype="f32", profile=tiny.profile("qwen3"))
    return folder


@pytest.fixture(scope="module")
def fn(folder: Path) -> Iterator[Function]:
    with Interpreter.load(str(folder / "base")) as interpreter:
        yield interpreter.function(load(folder / "log.paw"))


@pytest.fixture(scope="module")
def said(fn: Function) -> dict[str, str]:
    """What the program says of each line; not the same of all."""
    said = {line: fn(line, max_tokens=1) for line in [*LINES, ""]}
    assert len(set(said.values())) > 2
    return said


@pytest.fixture
def command(folder: Path) -> list[object]:
    return ["filter", folder / "log.paw", "--interpreter", folder / "base", *OPTIONS]


@pytest.fixture
def run(command: list[object], monkeypatch: pytest.MonkeyPatch, capfdbinary: Any) -> Paw:
    call = inside(monkeypatch, capfdbinary)
    return lambda *words: call(*command, *words)


def send(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin
    process.stdin.write(data)
    process.stdin.flush()


def test_lines_with_the_label_are_passed_on_as_they_are(
    run: Paw, said: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "app.log"
    file.write_bytes("\r\n".join([*LINES, "", *LINES]).encode())
    labels = {said[LINES[1]], said[LINES[2]]}
    assert any(label.upper() != label for label in labels)
    done = run(file, *(word for label in labels for word in ("--keep", f" {label.upper()} ")))
    kept = [line for line in [*LINES, "", *LINES] if said[line] in labels]
    assert 0 < len(kept) < 2 * len(LINES)
    lines = [line.encode() + b"\r\n" for line in kept]
    if said[LINES[-1]] in labels:  # the last line had no end, and gets one
        lines[-1] = LINES[-1].encode() + b"\n"
    assert done.stdout == b"".join(lines)
    assert done.returncode == 0
    assert done.stderr.startswith(f"19 lines in, {len(kept)} kept, 9 repeated, ")
    assert done.stderr.endswith(" lines/s\n")


def test_json_says_what_the_program_said(run: Paw, said: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "app.log"
    file.write_bytes(b"\n".join(map(str.encode, LINES)) + b"\n\xff\n")
    done = run(file, "--keep", said[LINES[4]], "--json")
    *kept, failed = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert [{"finish_reason": "length"} | row for row in kept] == [
        {"row": number, "input": line, "output": said[line], "finish_reason": "length"}
        for number, line in enumerate(LINES, 1)
        if said[line] == said[LINES[4]]
    ]
    assert (failed["row"], failed["error"]["code"]) == (10, "FormatError")
    error, summary = [json.loads(line) for line in done.stderr.splitlines()]
    assert error["error"] == failed["error"]
    counts = [summary[name] for name in ("num_rows", "num_kept", "num_failed", "num_cut")]
    assert counts == [10, len(kept) + 1, 1, 0]
    done = run(tmp_path / "no.log", "--keep", "x", "--json")
    assert (done.returncode, done.stdout) == (1, b"")
    assert json.loads(done.stderr)["error"]["code"] == "NotFound"


@pytest.mark.parametrize("on_error", ["keep", "drop", "stop"])
def test_a_line_that_fails_is_not_lost_unless_asked(
    run: Paw, said: dict[str, str], tmp_path: Path, on_error: str
) -> None:
    file = tmp_path / "app.log"
    bad, long, good = b"disk \xff full", b"x" * 1000, LINES[0].encode()
    file.write_bytes(b"\n".join([good, bad, good, long, good]) + b"\n")
    done = run(file, "--keep", said[LINES[0]], "--on-error", on_error)
    kept = {"keep": [good, bad, good, long, good], "drop": [good] * 3, "stop": [good]}[on_error]
    assert done.stdout == b"\n".join(kept) + b"\n"
    assert done.returncode == 1
    assert "not UTF-8: byte 0xff at 5\n" in done.stderr
    if on_error == "stop":
        assert done.stderr.startswith("error: ")
        assert "It is line 2's." in done.stderr
    else:
        assert "line 4: " in done.stderr
        assert done.stderr.endswith("2 of 5 lines failed\n")


def test_a_giant_line_fails_alone(
    run: Paw, said: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "MAX_LINE_BYTES", 1 << 17)
    file = tmp_path / "app.log"
    file.write_text(f"{LINES[0]}\n{'x' * 300_000}\n{LINES[0]}\n")
    done = run(file, "--keep", said[LINES[0]])
    assert done.stdout.splitlines() == [LINES[0].encode(), b"x" * 1024, LINES[0].encode()]
    assert "line 2: a line of 300,001 bytes, of which 1,024 are kept\n" in done.stderr


def test_options_that_suit_no_line_end_it_before_it_begins(
    command: list[object], tmp_path: Path
) -> None:
    (tmp_path / "app.log").write_text("disk\n")
    done = paw(*command, tmp_path / "app.log", "--keep", "x", "--max-tokens", 1000)
    assert (done.returncode, done.stdout) == (1, b"")
    assert "exceed the window of 256" in done.stderr


def test_an_overflow_policy_keeps_long_lines_from_failing(
    run: Paw, said: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "app.log"
    file.write_text("the disk is full " * 100 + "\n")
    done = run(file, "--keep", "none", "--overflow", "middle")
    assert (done.returncode, done.stdout) == (0, b"")
    assert "1 cut by" in done.stderr


def test_a_tail_is_answered_at_once_and_an_interrupt_ends_it_quietly(
    command: list[object], said: dict[str, str]
) -> None:
    label = said[LINES[1]]
    with start(*command, "--keep", label) as process:
        assert process.stdout
        for _ in range(3):
            for line in LINES:  # all in one go, and then nothing for a while
                send(process, line.encode() + b"\n")
            for line in LINES:
                if said[line] == label:
                    assert process.stdout.readline().decode() == line + "\n"
        send(process, b"half a li")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr
        assert (process.stdout.read(), process.stderr.read().strip()) == (b"", b"")


def test_a_line_is_passed_on_in_order_even_where_the_next_is_known_already(
    command: list[object], said: dict[str, str]
) -> None:
    labels = [word for line in LINES for word in ("--keep", said[line])]
    with start(*command, *labels) as process:
        send(process, b"".join(line.encode() + b"\n" for line in LINES[:1] * 3 + LINES))
        assert process.stdout
        for line in LINES[:1] * 3 + LINES:
            assert process.stdout.readline().decode() == line + "\n"
        assert process.stdin
        process.stdin.close()
        assert process.wait(30) == 0


def test_a_reader_that_has_had_enough_ends_it_quietly(
    command: list[object], said: dict[str, str]
) -> None:
    with start(*command, "--keep", said[LINES[0]]) as process:
        assert process.stdout
        send(process, LINES[0].encode() + b"\n")
        process.stdout.readline()
        process.stdout.close()
        send(process, LINES[0].encode() + b"\n")
        assert process.wait(30) == 0
        assert process.stderr
        assert process.stderr.read() == b""


def test_standard_input_is_read_where_no_file_is_named(
    command: list[object], said: dict[str, str]
) -> None:
    data = "\n".join(LINES).encode()
    for words in ([], ["-"]):
        done = paw(*command, *words, "--keep", said[LINES[0]], stdin=data)
        assert done.stdout.decode().splitlines() == [x for x in LINES if said[x] == said[LINES[0]]]
    done = paw(*command, "--keep", "x", stdin=b"")
    assert (done.returncode, done.stdout, done.stderr[:18]) == (0, b"", "0 lines in, 0 kept")


def test_a_label_that_the_spec_does_not_know_is_said(command: list[object], tmp_path: Path) -> None:
    program = replace(tiny.program("qwen3"), spec="Return ONLY one of: ALERT, QUIET")
    path = tmp_path / "log.paw"
    formats.save(program, path, dtype="f32", profile=tiny.profile("qwen3"))
    command[1] = path
    done = paw(*command, "--keep", "alert", "--keep", "ALRT", "--keep", "a", stdin=b"disk\n")
    assert "does not mention 'ALRT'" in done.stderr
    assert "does not mention 'a'" in done.stderr
    assert "'alert'" not in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["a.log"], 2, "--keep"),
        (["a.log", "--keep", "x"], 1, "cannot read a.log"),
        (["a.log", "--keep", "x", "--on-error", "skip"], 2, "--on-error"),
        (["a.log", "--keep", "x", "--temperature", -1], 1, "temperature"),
    ],
)
def test_a_wrong_call_gets_one_clear_sentence(
    run: Paw, words: list[object], code: int, message: str
) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout, message in done.stderr) == (code, b"", True)
