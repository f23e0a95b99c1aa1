"""`paw-mlx compile` with --candidates, --cases and --gate, as its user meets it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from compiling_repos import PSEUDO_PROGRAM, converted, interpreter
from scripted_writer import LABELS, TASK, ScriptedWriter, advised, cases

from paw_mlx import kept_cases, load, store
from paw_mlx.cases import Case
from paw_mlx.cli import cli
from paw_mlx.compiler import pipeline

ASKED = ["--labels", ",".join(LABELS.labels), "--adapter", "f32"]


@pytest.fixture(autouse=True)
def writer(monkeypatch: pytest.MonkeyPatch) -> ScriptedWriter:
    """The pseudo-compiler, which is a script."""
    script = ScriptedWriter()
    monkeypatch.setattr(pipeline, "PseudoCompiler", lambda path, instruction: script)
    return script


def write(path: Path, rows: Iterable[Case]) -> Path:
    path.write_text("".join(json.dumps(case.record()) + "\n" for case in rows))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "cases.jsonl", cases()[:60])


def run(*words: object) -> Result:
    known = ["--compiler", converted("qwen3"), "--interpreter", interpreter("qwen3")]
    known += ["--pseudo-compiler", interpreter("qwen3"), *ASKED]
    return CliRunner().invoke(cli, [str(word) for word in ["compile", *words, *known]])


def test_the_best_is_kept_and_told(tmp_path: Path, file: Path) -> None:
    out = tmp_path / "out.paw"
    words = [TASK, "-o", out, "--candidates", 3, "--cases", file, "--seed", 2]
    done = run(*words)
    assert (done.exit_code, done.stdout) == (0, f"{out}\n")
    record = load(out).meta["paw_mlx"]["candidates"]
    shown = done.stderr.splitlines()
    assert shown[0].split() == ["candidate", "right", "of", "30"]
    scores = [one["score"] for one in record["candidates"]]
    assert [line.split()[-1] for line in shown[1:4]] == [f"{score:.1%}" for score in scores]
    assert shown[4] == (
        f"candidate {record['chosen']} chosen by 30 cases; all get "
        f"{min(scores):.1%} to {max(scores):.1%} of them"
    )
    assert shown[5].startswith(
        f"on 30 other cases: accuracy {record['rest']['accuracy']:.1%} (95 %"
    )
    told = json.loads(run(*words, "--json").stdout)
    assert told["candidates"] == json.loads(json.dumps(record))
    assert told["path"] == str(out)


def test_a_missed_gate_leaves_nothing(tmp_path: Path, file: Path) -> None:
    out, kept = tmp_path / "out.paw", tmp_path / "pseudo.txt"
    words = [TASK, "-o", out, "--name", "sorted", "--save-pseudo-program", kept]
    words += ["--candidates", 2, "--cases", file, "--gate", "accuracy>=10%, accuracy>99.9%"]
    done = run(*words)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "the gate is missed: accuracy is " in done.stderr
    assert done.stderr.count("the gate is missed") == 1
    assert done.stderr.endswith("nothing is written\n")
    told = json.loads(run(*words, "--json").stdout)
    assert [one["met"] for one in told["candidates"]["gate"]] == [True, False]
    assert not out.exists()
    assert not kept.exists()
    assert store.entries() == []


def test_a_plain_compile_has_a_gate_too(tmp_path: Path, file: Path) -> None:
    right, wrong = tmp_path / "right.txt", tmp_path / "wrong.txt"
    right.write_text(advised("Never mind", "In short"))  # by whose program the cases were made
    wrong.write_text(PSEUDO_PROGRAM)
    words = [TASK, "--name", "sorted", "--cases", file, "--gate", "accuracy>=90%"]
    missed = run(*words, "--pseudo-program", wrong)
    assert (missed.exit_code, store.entries()) == (1, [])
    passed = run(*words, "--pseudo-program", right)
    assert passed.exit_code == 0
    assert "on 60 cases: accuracy 95.0% (95 % interval 86.3% to 98.3%)" in passed.stderr
    assert "stored sorted@v1" in passed.stderr
    told = json.loads(run(*words, "--pseudo-program", right, "--json").stdout)
    assert told["candidates"]["gate"][0]["met"]
    assert told["candidates"]["rest"]["num_cases"] == 60


def test_cases_kept_with_a_name_judge_its_next_version(writer: ScriptedWriter) -> None:
    gate = ["--name", "sorted", "--gate", "accuracy>=0"]
    fresh = run(TASK, *gate)
    assert fresh.exit_code == 2
    assert "--gate takes cases: give --cases FILE" in fresh.stderr
    assert run(TASK, "--name", "sorted").exit_code == 0
    assert "--gate takes cases" in run(TASK, *gate).stderr
    kept_cases.add("sorted", cases()[:20])
    done = run(f"{TASK} Again.", *gate, "--candidates", 2)
    assert done.exit_code == 0
    assert "on 10 other cases: accuracy" in done.stderr
    assert "stored sorted@v2" in done.stderr


def test_without_cases_it_says_what_was_chosen_by(tmp_path: Path) -> None:
    done = run(TASK, "-o", tmp_path / "out.paw", "--candidates", 3)
    assert done.exit_code == 0
    assert "no cases: candidate " in done.stderr
    assert "chosen by agreement on 2 inputs, " in done.stderr


def test_what_cannot_be_compiled_is_said_as_ever(tmp_path: Path, file: Path, monkeypatch) -> None:
    script = ScriptedWriter(0, 1, 2, 3, 4, 5)
    monkeypatch.setattr(pipeline, "PseudoCompiler", lambda path, instruction: script)
    done = run(TASK, "-o", tmp_path / "out.paw", "--candidates", 2, "--cases", file)
    assert done.exit_code == 1
    assert "error: no pseudo-program from draw 0" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([TASK, "--candidates", "0"], 2, "--candidates"),
        ([TASK, "--candidates", "17"], 2, "--candidates"),
        (["-f", "{specs}", "--candidates", "2"], 2, "are for one spec"),
        ([TASK, "--train", "--candidates", "2"], 2, "not for --train"),
        ([TASK, "--edit", "--candidates", "2"], 2, "no --edit"),
        ([TASK, "--pseudo-program", "{specs}", "--candidates", "2"], 2, "give none"),
        ([TASK, "--gate", "accuracy>=1"], 2, "--gate takes cases"),
        ([TASK, "--gate", "accuracy"], 1, "the gate cannot be read"),
        ([TASK, "--cases", "missing.jsonl"], 1, "missing.jsonl"),
        ([TASK, "--cases", "{one}", "--candidates", "2"], 1, "2 inputs at least, and there is 1"),
        ([TASK, "--cases", "{other}"], 1, "1 of 1 cases have an output that is not one of"),
        ([TASK, "--cases", "{one}", "--gate", "recall[up]>=1"], 1, "recall[up]"),
    ],
)
def test_a_wrong_call_gets_one_clear_sentence(
    tmp_path: Path, words: list[str], code: int, message: str, writer: ScriptedWriter
) -> None:
    files = {"one": write(tmp_path / "one.jsonl", [Case("a", "down")])}
    files["other"] = write(tmp_path / "other.jsonl", [Case("a", "up")])
    files["specs"] = tmp_path / "specs.jsonl"
    files["specs"].write_text('{"spec": "a"}\n{"spec": "b"}\n')
    out = tmp_path / "out"
    done = run(*(word.format(**files) for word in words), "-o", out)
    assert (done.exit_code, done.stdout) == (code, "")
    assert message in done.stderr
    assert writer.asked == []  # before the work
    assert not out.exists()
