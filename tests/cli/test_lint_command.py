"""`paw-mlx lint`, and what `paw-mlx compile` says of a spec on a terminal."""

from __future__ import annotations

import json
import os
import pty
from pathlib import Path

import pytest
from compiling_repos import PSEUDO_PROGRAM, SPEC, converted, interpreter
from shell import Paw, paw, start

OPEN = "Log line: ALERT if somebody must act now, QUIET otherwise. Example: disk full -> ALERT"
SAID = "Return ONLY one of: ALERT, QUIET"
GOOD = f"{OPEN}\n{SAID}"


@pytest.fixture
def specs(tmp_path: Path) -> Path:
    path = tmp_path / "specs.jsonl"
    rows = [{"spec": GOOD, "name": "good"}, {"spec": OPEN, "name": "open"}, {"spec": "spam or ham"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_finding_has_its_better_wording_below_it(call: Paw) -> None:
    done = call("lint", OPEN)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.decode() == (
        "labels-open: ALERT, QUIET look like labels, and nothing binds the output to them\n"
        f"    End the task: {SAID}\n"
    )


def test_a_spec_without_findings_says_so(call: Paw) -> None:
    done = call("lint", GOOD, "--strict")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", "nothing found\n")


def test_strict_exits_with_one(call: Paw) -> None:
    assert call("lint", OPEN, "--strict").returncode == 1
    assert call("lint", OPEN, "--strict", "--json").returncode == 1


def test_json_has_all_of_it(call: Paw) -> None:
    (finding,) = json.loads(call("lint", OPEN, "--json").stdout)["findings"]
    assert finding["code"] == "labels-open"
    assert SAID in finding["better"]
    assert json.loads(call("lint", GOOD, "--json").stdout) == {"findings": []}


def test_files_and_pipes(call: Paw, tmp_path: Path, specs: Path) -> None:
    text = tmp_path / "log.txt"
    text.write_text(OPEN)
    assert call("lint", "-f", text).stdout == call("lint", OPEN).stdout
    for words in (["lint"], ["lint", "-"]):
        assert paw(*words, stdin=OPEN.encode()).stdout == call("lint", OPEN).stdout
    shown = call("lint", "-f", specs, "-f", text).stdout.decode()
    assert "open: labels-open: " in shown
    assert "log: labels-open: " in shown
    assert "specs-3: short: it has 3 words\n" in shown
    assert "good: " not in shown
    lines = call("lint", "-f", specs, "--json").stdout.splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["good", "open", "specs-3"]


def test_wrong_calls(call: Paw, tmp_path: Path) -> None:
    assert call("lint", OPEN, "-f", tmp_path / "x.txt").returncode == 2
    done = call("lint", "-f", tmp_path / "x.txt")
    assert done.returncode == 1
    assert "error: cannot read" in done.stderr


def terminal(*words: object) -> str:
    """Return what a command that fails says on a terminal."""
    ours, theirs = pty.openpty()
    process = start("compile", *words, "--compiler", "/nowhere", "--offline", stderr=theirs)
    os.close(theirs)
    found = b""
    try:
        while piece := os.read(ours, 1 << 16):
            found += piece
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    process.communicate()
    return found.decode()


def test_compile_says_findings_once_and_before_the_work(tmp_path: Path, specs: Path) -> None:
    shown = terminal(OPEN, "-o", tmp_path / "x.paw")
    line = "lint: ALERT, QUIET look like labels, and nothing binds the output to them (labels-open)"
    assert shown.count("lint: ") == 1
    assert line in shown
    assert shown.index("lint: ") < shown.index("error:")
    many = terminal("-f", specs, "-o", tmp_path / "many/")
    assert many.count("lint: ") == 1
    assert "lint: 3 findings in 2 of 3 specs; `paw-mlx lint` shows them" in many
    assert "lint: " not in terminal(GOOD, "-o", tmp_path / "x.paw")


def test_compile_says_nothing_in_a_pipe_and_all_as_json(call: Paw, tmp_path: Path) -> None:
    pseudo = tmp_path / "pseudo.txt"
    pseudo.write_text(PSEUDO_PROGRAM)
    known = ["--compiler", converted("qwen3"), "--interpreter", interpreter("qwen3")]
    known += ["--pseudo-program", pseudo, "-o", tmp_path / "x.paw"]
    done = call("compile", SPEC, *known)
    assert done.returncode == 0, done.stderr
    assert "lint" not in done.stderr
    told = json.loads(call("compile", SPEC, *known, "--json").stdout)
    assert [finding["code"] for finding in told["lint"]] == ["no-examples"]
