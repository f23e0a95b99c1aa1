"""Drift: a program on other weights than it was compiled for says so, once, or fails."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import tiny

import paw_mlx as paw
from paw_mlx import DriftWarning, Interpreter, Program, formats
from paw_mlx.formats.fingerprint import fingerprint
from paw_mlx.interpreter import drift

SHORT = paw.Options(max_tokens=2)


@pytest.fixture(autouse=True)
def as_in_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "_warned", set())  # kept for a whole process


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny.write_base(tmp_path / "base", "llama")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A base of the same sizes with other weights."""
    return tiny.write_base(tmp_path / "other", "llama", seed=1)


def compiled_for(base: Path, seed: int = 0) -> Program:
    program = tiny.program("llama", seed)
    return replace(program, meta={**program.meta, "interpreter_fingerprint": fingerprint(base)})


def heard(interpreter: Interpreter, program: Program) -> list[str]:
    """The warnings of binding a program and running it twice."""
    with warnings.catch_warnings(record=True) as records:
        warnings.simplefilter("always")
        function = interpreter.function(program)
        for _ in range(2):
            function.run("picnic", max_tokens=2)
    assert {record.category for record in records} <= {DriftWarning}
    return [str(record.message) for record in records]


def test_the_base_a_program_was_compiled_for_is_no_drift(base):
    with Interpreter.load(str(base)) as interpreter:
        assert heard(interpreter, compiled_for(base)) == []
        interpreter.function(compiled_for(base), strict=True)


def test_another_base_is_warned_of_once_for_each_program(base, other):
    program = compiled_for(other)
    with Interpreter.load(str(base)) as interpreter:
        (message,) = heard(interpreter, program)
        assert fingerprint(base)[:12] in message
        assert fingerprint(other)[:12] in message
        assert str(base) in message
        assert "Recompile" in message
        assert heard(interpreter, replace(program)) == []
        assert len(heard(interpreter, compiled_for(other, seed=1))) == 1
        assert interpreter.run(program, "picnic", SHORT).output_tokens
    third = tiny.write_base(base, "llama", seed=2)
    with Interpreter.load(str(third)) as interpreter:
        assert len(heard(interpreter, program)) == 1


def test_running_without_a_function_warns_too(base, other):
    with Interpreter.load(str(base)) as interpreter, pytest.warns(DriftWarning):
        interpreter.run(compiled_for(other), "picnic", SHORT)


def test_the_warning_points_at_the_line_that_asked(base, other):
    with Interpreter.load(str(base)) as interpreter:
        with pytest.warns(DriftWarning) as bound:
            interpreter.function(compiled_for(other))
        with pytest.warns(DriftWarning) as named:
            paw.function(compiled_for(other, seed=1), interpreter=interpreter)
    assert [record.filename for record in (*bound, *named)] == [__file__] * 2


def test_strict_fails_each_time(base, other):
    program = compiled_for(other)
    for _ in range(2):
        with pytest.raises(paw.AdapterMismatch, match="fingerprint") as caught:
            paw.function(program, interpreter=str(base), strict=True)
        assert "Recompile" in caught.value.hints[0]


def test_a_warning_that_is_an_error_stays_one(base, other):
    with Interpreter.load(str(base)) as interpreter:
        for _ in range(2):
            with pytest.raises(DriftWarning):
                interpreter.function(compiled_for(other))


def test_bits_are_the_users_choice_and_no_drift(base, other):
    for _ in range(2):  # quantized now, and found again
        with Interpreter.load(str(base), bits=4) as interpreter:
            interpreter.function(compiled_for(base), strict=True)
    with Interpreter.load(str(base), bits=4) as interpreter:
        assert len(heard(interpreter, compiled_for(other))) == 1


def test_a_base_is_known_wherever_the_process_goes(base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Interpreter.load("./base") as interpreter:
        monkeypatch.chdir("/")
        interpreter.function(compiled_for(base), strict=True)


@pytest.mark.parametrize("record", [{}, {"interpreter_fingerprint": 5}])
def test_a_program_that_records_nothing_costs_nothing(base, record):
    with Interpreter.load(str(base)) as interpreter:
        shutil.rmtree(base)  # whoever reads it now fails
        program = replace(tiny.program("llama"), meta=record)
        assert heard(interpreter, program) == []
        with pytest.raises(paw.AdapterMismatch, match="records no fingerprint"):
            interpreter.function(program, strict=True)


def test_without_a_fingerprint_names_tell(base, monkeypatch):
    """A hub repo, or the package index, says which weights a base has; a folder says nothing."""
    program = replace(tiny.program("llama"), interpreter="HuggingFaceTB/SmolLM2-135M")
    with Interpreter.load(str(base)) as interpreter:
        for found, told in (
            ("HuggingFaceTB/SmolLM2-135M", False),
            ("huggingfacetb/smollm2-135m", False),
            ("unsloth/SmolLM2-135M", True),
            ("smollm2-135m", True),
        ):
            monkeypatch.setattr(drift.hub, "origin", lambda path, found=found: found)
            monkeypatch.setattr(drift, "_warned", set())
            assert [found in message for message in heard(interpreter, program)] == [True] * told
            if told:
                with pytest.raises(paw.AdapterMismatch, match="its weights are others"):
                    interpreter.check(program, strict=True)
            else:
                interpreter.check(program, strict=True)


def test_quantized_forms_of_a_known_base_are_that_base(base, monkeypatch):
    for one in ("Qwen/Qwen3-0.6B", "qwen3-0.6b"):
        for other in ("mlx-community/Qwen3-0.6B-4bit", "programasweights/Qwen3-0.6B-GGUF-Q6_K"):
            assert drift._is_same(one, other)
            assert not drift._is_same(one, other.replace("0.6B", "1.7B"))


def test_a_hostile_record_cannot_move_the_cursor(base):
    program = replace(tiny.program("llama"), meta={"interpreter_fingerprint": "\x1b[2J\n"})
    with Interpreter.load(str(base)) as interpreter:
        (message,) = heard(interpreter, program)
    assert message.isprintable()


# --- the command line -------------------------------------------------------------------


@pytest.fixture
def stored(other: Path, tmp_path: Path) -> Path:
    path = tmp_path / "triage.paw"
    formats.save(compiled_for(other), path, dtype="f32", profile=tiny.profile("llama"))
    return path


def run(*words: object, terminal: bool = False) -> tuple[int, str, str]:
    """Run the command line with stderr a pipe or a terminal: exit code, stdout, stderr."""
    command = [sys.executable, "-m", "paw_mlx", *map(str, words)]
    ours, theirs = pty.openpty() if terminal else os.pipe()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True)
    os.close(theirs)
    out, err = process.communicate(timeout=60)[0], b""
    try:
        while chunk := os.read(ours, 4096):
            err += chunk
    except OSError:  # Linux: the terminal's other side was closed
        pass
    os.close(ours)
    return process.returncode, out, err.decode().replace("\r\n", "\n")


def test_a_terminal_sees_one_line_and_a_pipe_none(base, stored):
    words = ["run", stored, "picnic", "--interpreter", base, "--max-tokens", 2]
    code, out, err = run(*words)
    assert (code, "warning:" in err) == (0, False)
    shown = run(*words, terminal=True)
    assert shown[:2] == (0, out)
    (line,) = [line for line in shown[2].splitlines() if "was cut" not in line]
    assert "warning:" in line
    assert "outputs may differ" in line
    assert "DriftWarning" not in line


@pytest.mark.parametrize("command", ["run", "test"])
def test_strict_is_an_error_with_a_way_out(base, other, stored, tmp_path, command):
    (tmp_path / "cases").write_text('{"input": "a", "output": "b"}\n')
    words = [command, stored, tmp_path / "cases", "--strict", "--max-tokens", 2, "--interpreter"]
    code, out, err = run(*words, base)
    assert (code, out) == (1, "")
    assert [line.split()[0] for line in err.splitlines()] == ["error:", "hint:"]
    code, out, err = run(*words, base, "--json")
    assert (json.loads(out)["error"]["code"], err) == ("AdapterMismatch", "")
    assert run(*words, other)[0] == 0
