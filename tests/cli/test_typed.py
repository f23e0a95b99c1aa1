"""Outputs that have a type, as a shell sees them: `run`, `train`, `inspect`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from shell import Paw

from paw_mlx import Decision, Interpreter, Labels, Regex, Schema, formats, load
from paw_mlx.output import TEXT, Output

LABELS = ("disk", "server", "picnic")
TEXT_GIVEN = "the disk is full"
ROWS = [(f"{word} {n}", str(int(word == "disk"))) for word in ("disk", "picnic") for n in range(12)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("typed")
    tiny.write_base(folder / "base", "llama")
    write(folder, "free", TEXT)
    return folder


def write(folder: Path, name: str, output: Output) -> Path:
    program = replace(tiny.program("llama", 1), output=output)
    path = folder / f"{name}.paw"
    formats.save(program, path, dtype="f32", profile=tiny.profile("llama"))
    return path


@pytest.fixture(scope="module")
def decision(folder: Path) -> Decision:
    with Interpreter.load(str(folder / "base")) as interpreter:
        program = load(folder / "free.paw").typed(Labels(LABELS))
        return interpreter.function(program).decide(TEXT_GIVEN)


@pytest.fixture
def run(folder: Path, call: Paw) -> Paw:
    """`paw-mlx run` on one input."""
    base = ["--interpreter", folder / "base"]
    return lambda *words: call("run", folder / "free.paw", TEXT_GIVEN, *words, *base)


def test_a_label_is_printed_and_json_says_how_likely_each_is(run: Paw, decision: Decision) -> None:
    words = ["--labels", ",".join(LABELS)]
    for more in ([], ["--stream"]):
        done = run(*words, *more)
        assert (done.stdout.decode(), done.stderr) == (f"{decision.label}\n", "")
    record = json.loads(run(*words, "--json").stdout)
    assert (record["text"], record["label"]) == (decision.label, decision.label)
    assert record["probabilities"] == pytest.approx(dict(decision.probabilities), abs=1e-5)
    assert record["in_scope"] == pytest.approx(decision.in_scope, rel=1e-4)
    assert (record["abstained"], [*record["probabilities"]]) == (False, [*LABELS])


def test_json_is_complete_whatever_the_number_of_labels(run: Paw, tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("".join(f"label, {number}\n" for number in range(2000)))
    record = json.loads(run("--labels", f"@{file}", "--json").stdout)
    shares = record["probabilities"]
    assert [*shares] == [f"label, {number}" for number in range(2000)]
    assert sum(shares.values()) == pytest.approx(1)
    assert shares[record["text"]] == max(shares.values())


def test_a_line_is_kept_by_its_label_however_that_is_written(
    call: Paw, folder: Path, tmp_path: Path
) -> None:
    lines = ["the disk is full", "server down", "picnic", "Friday"]
    (tmp_path / "app.log").write_text("".join(f"{line}\n" for line in lines))
    words = ["filter", folder / "free.paw", tmp_path / "app.log", "--labels", "Disk,SERVER,Picnic"]
    kept = []
    for label in ("disk", "Server", " PICNIC "):
        done = call(*words, "--keep", label, "--interpreter", folder / "base")
        kept += done.stdout.decode().splitlines()
    assert sorted(kept) == sorted(lines)  # each by its own label, and once


def test_a_label_that_is_too_unlikely_is_not_said_but_why(run: Paw, decision: Decision) -> None:
    words = ["--labels", ",".join(LABELS), "--threshold", 0.99]
    assert decision.probability < 0.99
    why = f"abstained: {decision.label!r} is the likeliest label, at {decision.probability:.3g}, "
    for more in ([], ["--stream"]):
        done = run(*words, *more)
        assert (done.returncode, done.stdout) == (0, b"\n")
        assert done.stderr == f"{why}and the threshold is 0.99\n"
    done = run(*words, "--otherwise", "ask")
    assert (done.stdout, done.stderr) == (b"ask\n", "")
    record = json.loads(run(*words, "--json").stdout)
    assert (record["text"], record["abstained"], record["label"]) == ("", True, decision.label)


def test_json_and_a_regex_hold_their_form_or_say_that_they_were_cut(
    run: Paw, tmp_path: Path
) -> None:
    file = tmp_path / "row.json"
    file.write_text('{"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}')
    assert json.loads(run("--schema", file).stdout)["n"] in (1, 2)
    assert run("--regex", "[ab]{3}").stdout.decode().strip("ab") == "\n"
    done = run("--schema", file, "--max-tokens", 1)
    assert (done.returncode, done.stdout) == (1, b"")
    assert "error: 1 token" in done.stderr
    assert "--max-tokens" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--labels", "disk"], 1, "--labels: labels are 2 to 65,536, and there are 1"),
        (["--labels", "disk,,picnic"], 1, "--labels: label 2 of 3 is empty"),
        (["--labels", "@missing.txt"], 1, "no such file: missing.txt"),
        (["--schema", "missing.json"], 1, "cannot read missing.json"),
        (["--labels", "a,b", "--schema", "x"], 2, "give --labels or --schema"),
        (["--regex", "a(?=b)"], 1, "the regex 'a(?=b)' cannot be an output's type"),
        (["--threshold", 2], 2, "2.0 is not in the range"),
        (["--threshold", 0.5], 1, "the output is text"),
        (["--regex", "a+", "--otherwise", "b"], 1, "the output is regex"),
    ],
)
def test_what_cannot_be_is_said_before_a_base_is_looked_for(
    folder: Path, call: Paw, words: list[object], code: int, message: str
) -> None:
    done = call("run", folder / "free.paw", "x", "--interpreter", "nowhere", *words)
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        (Labels(("ALERT", "QUIET")), "2 labels: ALERT, QUIET"),
        (
            Labels(("A", "B"), temperature=1.5, threshold=0.8, otherwise="?"),
            "2 labels: A, B; threshold 0.8; otherwise ?; temperature 1.5",
        ),
        (Schema.of({"type": "boolean"}), 'JSON of the schema {"type": "boolean"}'),
        (Regex("[ab]+"), "text that matches [ab]+"),
    ],
)
def test_a_programs_type_is_shown(call: Paw, output: Output, shown: str, tmp_path: Path) -> None:
    path = write(tmp_path, "typed", output)
    assert f"output       {shown}" in call("inspect", path).stdout.decode().splitlines()
    assert json.loads(call("inspect", path, "--json").stdout)["meta"]["output"] == output.record()


def train(call: Paw, folder: Path, tmp_path: Path, *words: object, spec: str) -> Any:
    (tmp_path / "spec.txt").write_text(spec)
    rows = (json.dumps({"input": text, "output": output}) for text, output in ROWS)
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    files = ["-f", tmp_path / "spec.txt", "--examples", tmp_path / "rows.jsonl"]
    size = ["--steps", 1, "--rank", 4, "--adapter", "f16", "--interpreter", folder / "base"]
    return call("train", *files, "-o", tmp_path / "made.paw", *size, *words)


@pytest.mark.parametrize(
    ("words", "output"),
    [
        (["--labels", "1,0,2"], Labels(("1", "0", "2"))),
        ([], Labels(("0", "1"))),
        (["--text"], TEXT),
        (["--regex", "[01]"], Regex("[01]")),
    ],
)
def test_a_trained_program_has_the_type_that_is_said_or_in_its_spec(
    call: Paw, folder: Path, tmp_path: Path, words: list[object], output: Output
) -> None:
    spec = "Is it a disk? Return ONLY one of: 0, 1"
    done = train(call, folder, tmp_path, *words, spec=spec)
    assert done.returncode == 0, done.stderr
    assert load(tmp_path / "made.paw").output == output
    assert ("labels from the spec: 0, 1" in done.stderr) == (not words)


def test_examples_that_are_of_another_type_are_named_before_anything_is_loaded(
    call: Paw, folder: Path, tmp_path: Path
) -> None:
    base = ["--interpreter", "nowhere"]
    for words, spec in ((["--labels", "0,2"], "Is it?"), ([], "Return ONLY one of: 0, 2.")):
        done = train(call, folder, tmp_path, *base, *words, spec=spec)
        assert done.returncode == 1
        assert (
            "12 of 24 cases have an output that is not one of the labels 0, 2: line 1 ('1'), "
            "line 2 ('1'), line 3 ('1'), line 4 ('1'), line 5 ('1') and 7 more" in done.stderr
        )
        assert "--text for any" in done.stderr
