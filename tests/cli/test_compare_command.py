"""`paw-mlx compare`, and the gate, the tables and the files of `paw-mlx test`, on a tiny base."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import tiny
from shell import Done, Paw

from paw_mlx import Interpreter, Labels, formats, kept_cases, store
from paw_mlx.cases import Case
from paw_mlx.evaluation.comparison import mcnemar

WORDS = ["disk", "server", "picnic", "Friday", "down", "spring", "all", "full", "welcome", "and"]
TEXTS = [f"{a} {b}" for a in WORDS for b in WORDS][:60]
LABELS = Labels(("down", "full"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and two programs; by cases.jsonl A is right on all but 6, B where it says the same."""
    folder = tmp_path_factory.mktemp("compare")
    base = tiny.write_base(folder / "base", "llama")
    said = {}
    with Interpreter.load(str(base)) as interpreter:
        for name, seed in (("a", 0), ("b", 5)):
            program = replace(tiny.program("llama", seed), output=LABELS)
            formats.save(program, folder / f"{name}.paw", "f16", profile=tiny.profile("llama"))
            said[name] = [interpreter.run(program, text).text for text in TEXTS]
    other = dict(zip(LABELS.labels, reversed(LABELS.labels), strict=True))
    right = [other[label] if i % 10 == 0 else label for i, label in enumerate(said["a"])]
    write(folder / "cases.jsonl", zip(TEXTS, right, strict=True))
    (folder / "said.json").write_text(json.dumps(said))
    assert 10 < sum(a != b for a, b in zip(said["a"], said["b"], strict=True)) < 50
    return folder


def write(path: Path, rows: object) -> None:
    lines = (json.dumps({"input": text, "output": right}) for text, right in rows)  # type: ignore
    path.write_text("".join(line + "\n" for line in lines))


@pytest.fixture
def run(folder: Path, call: Paw) -> Paw:
    """A command on the base, its words with what is in the folder."""

    def run(*words: object) -> Done:
        there = [folder / str(word) if (folder / str(word)).exists() else word for word in words]
        return call(*there, "--interpreter", folder / "base")

    return run


def refused(done: Done, sentence: str) -> None:
    assert (done.returncode, done.stdout) == (1, b"")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


# --- compare -------------------------------------------------------------------------------


def counts(folder: Path) -> dict[tuple[bool, bool], int]:
    """How many cases each of the programs gets right, by what they say."""
    said = json.loads((folder / "said.json").read_text())
    rows = [json.loads(line) for line in (folder / "cases.jsonl").read_text().splitlines()]
    found = [
        (a == row["output"], b == row["output"])
        for a, b, row in zip(said["a"], said["b"], rows, strict=True)
    ]
    return {pair: found.count(pair) for pair in {*found}}


def test_a_worse_program_is_told_and_fails(run: Paw, folder: Path) -> None:
    done = run("compare", "a.paw", "b.paw", "cases.jsonl")
    expected = counts(folder)
    only_a, only_b = expected[True, False], expected[False, True]
    assert only_a > 5
    assert mcnemar(only_a, only_b) < 0.05
    shown = done.stdout.decode()
    assert done.returncode == 1, done.stderr
    assert f"A alone on {only_a}, B alone on {only_b}" in shown
    assert shown.endswith("B is worse than A\n")
    assert f"and {only_a - 5} more that A alone gets right" in shown
    assert "54     90.0%" in shown
    backwards = run("compare", "b.paw", "a.paw", "cases.jsonl")
    assert backwards.returncode == 0
    assert backwards.stdout.decode().endswith("B is better than A\n")


def test_the_cases_that_tell_are_shown(run: Paw) -> None:
    done = run("compare", "a.paw", "b.paw", "cases.jsonl", "--json")
    record = json.loads(done.stdout)
    first = record["split"][0]
    shown = run("compare", "a.paw", "b.paw", "cases.jsonl").stdout.decode()
    lines = [
        f"input     {json.dumps(first['input'])}",
        f"expected  {json.dumps(first['expected'])}",
    ]
    lines += [f"{side.upper()}         {json.dumps(first[side]['output'])}" for side in "ab"]
    assert shown.startswith("\n".join(lines) + "\n\n")
    assert first["a"]["correct"]
    assert not first["b"]["correct"]


def test_json_has_both_programs_and_all_cases(run: Paw, folder: Path) -> None:
    done = run("compare", "a.paw", "b.paw", "cases.jsonl", "--json")
    record, expected = json.loads(done.stdout), counts(folder)
    assert done.returncode == 1
    assert (record["only_a"], record["both_right"]) == (expected[True, False], expected[True, True])
    assert record["p_value"] == mcnemar(record["only_a"], record["only_b"])
    assert len(record["split"]) == record["only_a"] + record["only_b"]
    assert record["verdict"] == "worse"
    assert record["a"]["accuracy"] == pytest.approx(0.9)
    assert record["a"]["program_id"] != record["b"]["program_id"]
    assert record["interval"][0] < record["difference"] < record["interval"][1] < 0


def test_few_cases_cannot_tell(run: Paw, tmp_path: Path, folder: Path) -> None:
    said = json.loads((folder / "said.json").read_text())
    rows = [row for row in zip(TEXTS, said["a"], said["b"], strict=True) if row[1] != row[2]][:3]
    write(tmp_path / "few.jsonl", [(text, a) for text, a, _ in rows])
    done = run("compare", "a.paw", "b.paw", tmp_path / "few.jsonl")
    assert done.returncode == 0
    last = done.stdout.decode().splitlines()[-1]
    assert last == "cannot tell with 3 cases: if A leads on as it does here, it takes about 6"
    same = run("compare", "a.paw", "a.paw", tmp_path / "few.jsonl").stdout.decode()
    assert same.endswith("cannot tell with 3 cases: neither leads\n")
    assert "expected" not in same


def test_without_cases_those_kept_with_the_first_are_asked(run: Paw, folder: Path) -> None:
    store.add(folder / "a.paw", "triage")
    refused(run("compare", "triage", "b.paw"), "no cases are kept with triage")
    said = json.loads((folder / "said.json").read_text())["a"]
    kept_cases.add("triage", [Case(*row) for row in zip(TEXTS[:20], said, strict=False)])
    record = json.loads(run("compare", "triage", "b.paw", "--json").stdout)
    assert (record["cases"], record["a"]["accuracy"]) == (20, 1.0)


# --- test ----------------------------------------------------------------------------------


def test_a_gate_sets_the_exit_code(run: Paw) -> None:
    test = ["test", "a.paw", "cases.jsonl"]
    passed = run(*test, "--gate", "accuracy>=90%, failed<=0")
    assert passed.returncode == 0
    assert passed.stdout.decode().endswith("gate passed: accuracy >= 90.0 %, failed <= 0.0 %\n")
    missed = run(*test, "--gate", "accuracy>90%, accuracy.low>=.5, coverage<1")
    assert missed.returncode == 1
    last = missed.stdout.decode().splitlines()[-2:]
    assert last == [
        "gate missed: accuracy is 90.0 % and should be > 90.0 %",
        "gate missed: coverage is 100.0 % and should be < 100.0 %",
    ]
    record = json.loads(run(*test, "--gate", "accuracy>90%", "--json").stdout)
    assert record["gate"][0]["met"] is False
    assert record["interval"][0] < 0.9 < record["interval"][1]
    assert {*record["labels"]} == {*LABELS.labels}


def test_a_wrong_gate_is_told_before_anything_is_run(run: Paw, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    for gate, sentence in [
        ("acuracy>=1", "the gate cannot be read at character 1, 'acuracy>=1'"),
        ("recall[up]>=1", "the gate asks for recall[up], and the labels are down, full"),
    ]:
        done = run("test", "a.paw", "cases.jsonl", "--gate", gate, "--html", page)
        refused(done, sentence)
        assert not page.exists()
    error = json.loads(run("test", "a.paw", "cases.jsonl", "--gate", "", "--json").stdout)["error"]
    assert error["code"] == "OptionError"


def test_labels_and_the_interval_are_shown(run: Paw) -> None:
    done = run("test", "a.paw", "cases.jsonl")
    shown = done.stdout.decode()
    record = json.loads(run("test", "a.paw", "cases.jsonl", "--json").stdout)
    one = record["labels"]["full"]
    shares = [f"{one[name]:.1%}" for name in ("precision", "recall", "f1")]
    (line,) = [line for line in shown.splitlines() if line.split()[2:] == shares]
    assert line.split()[:2] == ["full", str(one["cases"])]
    assert f"macro F1 {record['macro_f1']:.1%}" in shown
    low, high = record["interval"]
    assert f"accuracy 90.0% (54 of 60), 95% interval {low:.1%} to {high:.1%}, in" in shown


def test_of_many_labels_the_worst_are_shown(run: Paw, tmp_path: Path, folder: Path) -> None:
    names = [f"label {number}" for number in range(15)]
    write(tmp_path / "many.jsonl", [(name, name) for name in names])
    done = run("test", "a.paw", tmp_path / "many.jsonl", "--labels", ",".join(names))
    shown = done.stdout.decode()
    assert "the 12 of 15 labels with the least F1" in shown
    assert "right \\ said" not in shown


def test_files_are_written_beside_what_is_shown(run: Paw, tmp_path: Path) -> None:
    junit, page = tmp_path / "junit.xml", tmp_path / "page.html"
    files = ["--junit", junit, "--html", page]
    done = run("test", "a.paw", "cases.jsonl", "--gate", "accuracy>=99%", *files)
    assert done.returncode == 1
    assert "accuracy 90.0%" in done.stdout.decode()
    cases, gate = ET.parse(junit).getroot()
    assert (cases.get("tests"), cases.get("failures")) == ("60", "6")
    assert (gate.get("tests"), gate.get("failures")) == ("1", "1")
    text = page.read_text()
    assert text.startswith("<!DOCTYPE html>")
    assert "90.0 %" in text
    refused(
        run("test", "a.paw", "cases.jsonl", "--html", tmp_path / "no" / "such" / "page.html"),
        "its folder is missing",
    )
