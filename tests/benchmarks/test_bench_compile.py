"""`paw-mlx bench compile` with the tiny compilers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from compiling_repos import PSEUDO_PROGRAM, SPEC, converted, interpreter
from shell import Done, Paw, inside

from paw_mlx.benchmarks import compiling
from paw_mlx.compiler.compilation import Compilation


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any) -> Paw:
    """The command, with these compilers; `stdin` is what is piped into it."""
    paw = inside(monkeypatch, capfdbinary)
    known = ["--compiler", converted("qwen3"), "--interpreter", interpreter("qwen3")]

    def run(*words: object, stdin: str | None = None) -> Done:
        if stdin is None:
            return paw("bench", "compile", *words, *known)
        (tmp_path / "stdin").write_text(stdin)
        with (tmp_path / "stdin").open() as pipe:
            monkeypatch.setattr(sys, "stdin", pipe)
            return paw("bench", "compile", *words, *known)

    return run


@pytest.fixture
def pseudo(tmp_path: Path) -> Path:
    path = tmp_path / "pseudo.txt"
    path.write_text(PSEUDO_PROGRAM)
    return path


def test_every_spec_has_the_seconds_and_the_peak_of_every_phase(run, tmp_path, pseudo):
    specs = tmp_path / "specs.txt"
    specs.write_text(f"{SPEC}\n\nShorter. {SPEC}\n")
    done = run(specs, "--pseudo-program", pseudo, "--json")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    report = json.loads(line)
    assert (report["kind"], report["synthetic"]) == ("compile", False)
    assert report["settings"]["num_specs"] == 2
    assert [row["spec"][:7] for row in report["rows"]] == [SPEC[:7], "Shorter"]
    for row in report["rows"]:
        assert 0 < row["encode_s"] < row["total_s"]
        assert 0 < row["map_s"] < row["total_s"]
        assert row["encode_peak_bytes"] > 0 < row["map_peak_bytes"]
        assert "error" not in row


def test_specs_come_from_standard_input_and_one_that_fails_stops_no_other(run, tmp_path):
    rows = [
        {"spec": SPEC, "name": "bad", "pseudo_program": "Task: no markers"},
        {"spec": SPEC, "name": "good", "pseudo_program": PSEUDO_PROGRAM},
    ]
    specs = tmp_path / "specs.jsonl"
    specs.write_text("\n".join(map(json.dumps, rows)))
    report = json.loads(run(specs, "--json").stdout)
    bad, good = report["rows"]
    assert "[PSEUDO_PROGRAM]" in bad["error"]
    assert "encode_s" not in bad
    assert good["encode_s"] > 0


def test_lines_of_standard_input_are_specs_and_results_are_written(run, tmp_path, pseudo):
    done = run("-", "--pseudo-program", pseudo, "-o", tmp_path, stdin=f"{SPEC}\n{SPEC}!\n")
    assert done.returncode == 0, done.stderr
    assert "1/2: " in done.stderr
    assert SPEC[:20] in done.stdout.decode()
    (path,) = tmp_path.glob("*-compile.json")
    assert len(json.loads(path.read_text())["rows"]) == 2


def test_specs_that_were_compiled_before_an_interrupt_are_kept(run, tmp_path, pseudo, monkeypatch):
    measured = compiling.row

    def row(job):
        if job.spec == "Stop.":
            raise KeyboardInterrupt
        return measured(job)

    monkeypatch.setattr(compiling, "row", row)
    done = run("-", "--pseudo-program", pseudo, "-o", tmp_path, stdin=f"{SPEC}\nStop.\n{SPEC}!\n")
    assert done.returncode != 0
    assert "cut short: it was interrupted" in done.stdout.decode()
    (path,) = tmp_path.glob("*-compile.json")
    report = json.loads(path.read_text())
    assert [row["spec"][:7] for row in report["rows"]] == [SPEC[:7]]
    assert report["settings"]["num_specs"] == 3


def test_nothing_compiled_is_an_error_and_so_is_no_spec(run, tmp_path):
    bad = tmp_path / "bad.txt"
    bad.write_text("Task: no markers")
    done = run("-", "--pseudo-program", bad, stdin=SPEC)
    assert done.returncode == 1
    assert "none of 1 specs was compiled" in done.stderr
    assert "there is no spec" in run("-", stdin="\n").stderr


def test_long_specs_that_begin_alike_are_told_apart():
    long = "Say whether the line needs a reply today, and if so, by whom: "
    specs = [f"{long}{end}" for end in ("the team", "the customer", "the team")]
    first, second, third = (compiling.row(Compilation(spec))["spec"] for spec in specs)
    assert first == third != second
    assert len(first) == len(second) == 60
    assert compiling.row(Compilation("short"))["spec"] == "short"
