"""Streams as people have them: non-blocking, of any encoding, full, closed, or suddenly gone."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from shell import SCRIPT, Done, paw, start

from paw_mlx import Function, Interpreter, formats, load

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    tiny.write_base(folder / "base", "llama")
    formats.save(
        tiny.program("llama"), folder / "one.paw", dtype="f32", profile=tiny.profile("llama")
    )
    return folder


@pytest.fixture(scope="module")
def said(folder: Path) -> str:
    with Interpreter.load(str(folder / "base")) as interpreter:
        fn = Function(interpreter, load(folder / "one.paw"))
        said = fn("picnic", max_tokens=8)
    assert any(ord(c) > 255 for c in said)
    return said


@pytest.fixture
def options(folder: Path) -> list[object]:
    return ["--interpreter", folder / "base", "--max-tokens", 8]


def environ(**more: str) -> dict[str, Any]:
    return {"env": {**os.environ, **more}}


def unblock(descriptor: int) -> None:
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_NONBLOCK)


def test_an_input_that_comes_late_is_waited_for(
    folder: Path, options: list[object], said: str
) -> None:
    for name in ("run", "map"):
        ours, theirs = os.pipe()
        unblock(ours)
        with start(name, folder / "one.paw", *options, stdin=ours) as process:
            os.close(ours)
            time.sleep(1.5)  # it reads, and there is nothing yet
            os.write(theirs, b"picnic\n")
            os.close(theirs)
            stdout, stderr = process.communicate(timeout=60)
        line = said if name == "run" else said.replace("\r", "\\r").replace("\n", "\\n")
        assert (stdout.decode(), process.returncode) == (line + "\n", 0), stderr


@pytest.mark.slow
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", [["map"], ["filter", "--keep", "x", "--json"], ["inspect"]])
def test_no_byte_is_lost_on_the_way_through_a_slow_pipe(
    folder: Path, options: list[object], tmp_path: Path, unbuffered: str, command: list[str]
) -> None:
    file, pad, program = tmp_path / "rows.jsonl", "y" * 100_000, folder / "one.paw"
    file.write_bytes((b"\xff" + pad.encode() + b"\n") * 9)  # kept with an error, all of them
    words = [command[0], program, file, *command[1:], *options]
    if command == ["inspect"]:
        words = ["inspect", tmp_path / "long.paw"]
        formats.save(
            replace(load(program), spec=pad * 9),
            tmp_path / "long.paw",
            dtype="f32",
            profile=tiny.profile("llama"),
        )
    ours, theirs = os.pipe()
    unblock(theirs)
    started = start(*words, stdout=theirs, **environ(PYTHONUNBUFFERED=unbuffered))
    with started as process:
        os.close(theirs)
        seen = b""
        while data := os.read(ours, 4096):
            seen += data
            time.sleep(0.0005)
        process.communicate(timeout=60)
    os.close(ours)
    assert seen.count(b"y" * 100_000) == 9
    assert seen.endswith(b"\n")


@pytest.mark.slow
def test_what_an_encoding_lacks_is_replaced_and_said(
    folder: Path, options: list[object], said: str, tmp_path: Path
) -> None:
    one = folder / "one.paw"
    cases = tmp_path / "cases.jsonl"
    cases.write_text('{"input": "picnic", "output": "世界"}\n', encoding="utf-8")
    convert = ["convert", one, *options[:2], "--dtype", "f16"]
    for encoding in ("latin-1", "cp1252"):
        other = environ(PYTHONIOENCODING=encoding)
        done = paw("run", one, "picnic", *options, **other)
        assert done.stdout == said.encode(encoding, "replace") + b"\n"
        assert "? stands for characters that it lacks" in done.stderr
        record = json.loads(paw("run", one, "picnic", *options, "--json", **other).stdout)
        assert record["text"] == said
    for words in (
        [*convert, tmp_path / "out.gguf"],
        ["verify", one, one],
        ["test", one, cases, *options],
        ["doctor"],
        ["map", "--help"],
    ):
        done = paw(*words, **other)
        assert "Traceback" not in done.stderr, words
        assert done.stdout, words
        assert done.returncode == 0 or words == ["doctor"], (words, done.stderr)


@pytest.mark.slow
@needs_full
def test_a_full_disk_behind_any_command_is_one_sentence(
    folder: Path, options: list[object], tmp_path: Path
) -> None:
    one = folder / "one.paw"
    convert = ["convert", one, *options[:2], "--dtype", "f16"]
    (tmp_path / "cases.jsonl").write_text('{"input": "picnic", "output": "x"}\n')
    for words in (
        ["run", one, "picnic", *options],
        ["run", one, "picnic", *options, "--stream"],
        ["run", one, "picnic", *options, "--json"],
        ["test", one, tmp_path / "cases.jsonl", *options],
        ["inspect", one],
        ["ls", "--json"],
        ["doctor"],
        ["verify", one, one],
        [*convert, tmp_path / "out.gguf"],
        ["--version"],
        ["--help"],
    ):
        with Path("/dev/full").open("wb") as full, start(*words, stdout=full) as process:
            stderr = process.communicate(timeout=60)[1].decode()
        assert process.returncode == 1, words
        assert "cannot write standard output: No space left on device" in stderr, words
        assert "Traceback" not in stderr
        assert "Exception ignored" not in stderr
        if words[0] == "convert":
            assert stderr.endswith(f"{tmp_path / 'out.gguf'} is written all the same.\n")
            assert (tmp_path / "out.gguf").exists()


def test_a_verdict_outlives_its_reader(folder: Path, options: list[object], tmp_path: Path) -> None:
    (tmp_path / "cases.jsonl").write_text('{"input": "picnic", "output": "x"}\n')
    ours, theirs = os.pipe()
    os.close(ours)
    words = [
        "test",
        folder / "one.paw",
        tmp_path / "cases.jsonl",
        "--gate",
        "accuracy>=1",
        *options,
    ]
    with start(*words, stdout=theirs) as process:
        os.close(theirs)
        stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert b"Traceback" not in stderr
    assert b"Broken pipe" not in stderr


def test_an_output_is_printed_as_it_is(folder: Path, options: list[object], tmp_path: Path) -> None:
    """Also what click takes for a color, and leaves out of a pipe."""
    code = (
        "import sys\nfrom paw_mlx.cli.common import print_data\n"
        "from paw_mlx.streams import steady\n"
        "with steady(): print_data('\\x1b[31mred\\x1b[0m')\n"
    )
    done = subprocess.run([SCRIPT[0], "-c", code], capture_output=True, timeout=60, check=True)
    assert done.stdout == b"\x1b[31mred\x1b[0m"


def watch_and_close(words: list[object], until: bytes) -> tuple[int, bytes]:
    """Close the terminal that a job writes to as soon as it shows something."""
    ours, theirs = pty.openpty()
    process = start(
        *words,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):
        while until not in seen:
            seen += os.read(ours, 4096)
    os.close(ours)
    return process.wait(60), seen


def test_work_outlives_its_terminal(folder: Path, options: list[object], tmp_path: Path) -> None:
    words = ["disk", "server", "picnic", "spring", "Friday", "down"]
    rows = [(f"{a} {b} {c}", "01"["disk" in (a, b)]) for a in words for b in words for c in words]
    examples = tmp_path / "rows.jsonl"
    examples.write_text("".join(json.dumps({"input": i, "output": o}) + "\n" for i, o in rows))
    (tmp_path / "spec.txt").write_text("Is it a disk? Return ONLY one of: 0, 1")
    one, trained, mapped = folder / "one.paw", tmp_path / "out.paw", tmp_path / "out.jsonl"
    train = ["train", "-f", tmp_path / "spec.txt", "--examples", examples, "-o", trained]
    train += ["--interpreter", folder / "base", "--steps", 4, "--batch-size", 2, "--rank", 32]
    for command, until, made in (
        (
            ["map", one, examples, "--output-field", "said", "-o", mapped, *options],
            b"rows/s",
            mapped,
        ),
        (train, b"step 1 ", trained),
        (["test", one, examples, "--gate", "accuracy>=1", *options], b"%", None),
    ):
        code, seen = watch_and_close(command, until)
        assert until in seen
        assert code == (0 if made else 1)  # of `test`, what it is for
        assert made is None or made.exists()


def test_a_bar_is_for_a_terminal_alone(folder: Path, options: list[object]) -> None:
    words = ["run", folder / "one.paw", "picnic", *options, "--bits", 4, "--group-size", 32]
    code = (
        "from paw_mlx.cli import voice\nfrom paw_mlx.__main__ import main\n"
        "voice.EVERY_S = 0\nmain()\n"
    )
    ours, theirs = pty.openpty()
    command = [SCRIPT[0], "-c", code, *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):
        while data := os.read(ours, 4096):
            shown += data
    os.close(ours)
    stdout = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    assert b"quantizing base to 4 bits, once\r\n\r[" in shown
    assert b"50%" in shown
    again: Done = paw(*words)
    assert again.stdout == stdout
    assert "[" not in again.stderr
