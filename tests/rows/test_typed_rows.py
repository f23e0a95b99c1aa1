"""Rows of programs whose outputs have a type: labels with probabilities, JSON of a schema."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from row_files import interrupted, objects, table
from shell import Paw, inside

from paw_mlx import Decision, Function, Interpreter, Labels, Schema, formats, load
from paw_mlx.output import Output

LABELS = ("disk", "server", "picnic")
TEXTS = ["the disk is full", "server down", "picnic", "Friday", "世界", "all are welcome"]
SCHEMA = {
    "type": "object",
    "properties": {"who": {"enum": ["Ann", "Bob"]}, "sure": {"type": "boolean"}},
    "required": ["who", "sure"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def typed(folder: Path) -> Path:
    """A folder of programs with types beside the base, and two that lack one."""
    types = {"labels": Labels(LABELS), "unsure": Labels(LABELS, otherwise="unsure")}
    for name, output in {**types, "schema": Schema.of(SCHEMA)}.items():
        write(folder, name, output)
    return folder


def write(folder: Path, name: str, output: Output) -> None:
    program = replace(tiny.program("llama", 1), output=output)
    formats.save(program, folder / f"{name}.paw", dtype="f32", profile=tiny.profile("llama"))


@pytest.fixture
def run(typed: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any) -> Paw:
    """`paw-mlx map`, in this process, of a program in the folder."""
    call = inside(monkeypatch, capfdbinary)
    base = ["--interpreter", typed / "base"]
    return lambda name, *words: call("map", typed / name, *words, *base)


@pytest.fixture(scope="module")
def decided(typed: Path) -> dict[str, Decision]:
    """What the program decides on each text; not the same of all."""
    with Interpreter.load(str(typed / "base")) as interpreter:
        fn: Function = interpreter.function(load(typed / "labels.paw"))
        decided = {text: fn.decide(text) for text in TEXTS}
    assert {decision.label for decision in decided.values()} == {*LABELS}
    return decided


@pytest.fixture
def between(decided: dict[str, Decision]) -> float:
    """A threshold below which some of the decisions are, and some not."""
    known = sorted(decision.probability for decision in decided.values())
    return (known[2] + known[3]) / 2


def sheet(folder: Path) -> Path:
    file = folder / "rows.csv"
    file.write_text("id,text\n" + "".join(f"{i},{text}\n" for i, text in enumerate(TEXTS)))
    return file


def test_a_column_gets_the_probability_of_the_label(
    run: Paw, decided: dict[str, Decision], tmp_path: Path
) -> None:
    rows = ["labels.paw", sheet(tmp_path), "--probability-field", "p"]
    wanted = {text: (each.label, pytest.approx(each.probability)) for text, each in decided.items()}
    done = run(*rows, "--unordered", "--output-field", "kind")
    header = done.stdout.decode().splitlines()[0]
    assert header == "id,text,kind,p,error,row"
    found = table(done.stdout)
    assert {row["text"]: (row["kind"], float(row["p"])) for row in found} == wanted
    assert {row["row"]: row["text"] for row in found}["6"] == TEXTS[5]
    assert run(*rows, "-o", tmp_path / "out.jsonl").returncode == 0
    lines = objects((tmp_path / "out.jsonl").read_bytes())
    assert {row["text"]: (row["output"], row["p"]) for row in lines} == wanted
    assert [*lines[0]] == ["id", "text", "output", "p"]


def test_json_lines_carry_all_that_was_decided_by(
    run: Paw, decided: dict[str, Decision], tmp_path: Path
) -> None:
    file, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    own = json.dumps({"text": TEXTS[1], "decision": "mine"})
    file.write_text(json.dumps({"text": TEXTS[0]}) + "\n" + own + "\n")
    assert run("labels.paw", file, "-o", out, "--json").returncode == 0
    first, second = objects(out.read_bytes())
    decision = decided[TEXTS[0]]
    assert first["output"] == decision.value
    told = first["decision"]
    assert (told["label"], told["abstained"]) == (decision.label, False)
    assert told["in_scope"] == pytest.approx(decision.in_scope, rel=1e-4)
    assert told["probabilities"] == pytest.approx(dict(decision.probabilities), abs=1e-5)
    assert (second["decision"], second["output_decision"]["label"]) == (
        "mine",
        decided[TEXTS[1]].label,
    )
    assert "decision" not in objects(run("labels.paw", file).stdout)[0]


def test_a_label_that_is_too_unlikely_is_not_said(
    run: Paw, decided: dict[str, Decision], between: float, tmp_path: Path
) -> None:
    file, out = sheet(tmp_path), tmp_path / "out.jsonl"
    done = run("labels.paw", file, "-o", out, "--threshold", between)
    sure = [each.label if each.probability > between else None for each in decided.values()]
    assert sure.count(None) == 3
    assert [row["output"] for row in objects(out.read_bytes())] == sure
    assert done.stderr.endswith(", 3 abstained\n")
    done = run("labels.paw", file, "--threshold", between, "--otherwise", "ask", "--json")
    assert [row["output"] for row in table(done.stdout)] == [label or "ask" for label in sure]
    assert json.loads(done.stderr)["num_abstained"] == 3


def test_json_of_a_schema_is_no_string_in_json_lines(run: Paw, tmp_path: Path) -> None:
    file, out = sheet(tmp_path), tmp_path / "out.jsonl"
    assert run("schema.paw", file, "-o", out, "--max-tokens", 64).returncode == 0
    values = [row["output"] for row in objects(out.read_bytes())]
    assert all(value["who"] in ("Ann", "Bob") and len(value) == 2 for value in values)
    cells = [row["output"] for row in table(run("schema.paw", file, "--max-tokens", 64).stdout)]
    assert [json.loads(cell) for cell in cells] == values
    done = run("schema.paw", file, "--max-tokens", 3)
    assert done.returncode == 1
    assert all(row["error"].startswith("OutputError: 3 tokens") for row in table(done.stdout))


def test_a_run_goes_on_only_with_the_type_that_it_began_with(
    run: Paw, decided: dict[str, Decision], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = sheet(tmp_path), tmp_path / "out.csv"
    words = ["labels.paw", file, "-o", out, "--probability-field", "p"]
    interrupted(run, monkeypatch, *words, rows=2)
    for more, message in (
        (["--labels", "disk,server"], "output_type was {'type': 'labels', 'labels': ['disk', "),
        (["--threshold", 0.9], "0.9"),
    ):
        done = run(*words, "--resume", *more)
        assert (done.returncode, message in done.stderr) == (1, True), done.stderr
    done = run(*words[:-2], "--resume")
    assert "probability_field was 'p', now None" in done.stderr
    assert run(*words, "--resume").returncode == 0
    assert [row["output"] for row in table(out.read_bytes())] == [d.label for d in decided.values()]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["one.paw"], "a probability is a label's, and the program's output is text"),
        (["labels.paw", "--output-field", "p"], "--probability-field p: another field has"),
        (["labels.paw", "--probability-field", "text"], "the input has a field 'text' already"),
        (["labels.paw", "--format", "lines"], "--probability-field names a field, and lines"),
        (["labels.paw", "--labels", "a,b,a"], "--labels: the label 'a' is there twice"),
    ],
)
def test_a_wrong_call_gets_one_clear_sentence(
    run: Paw, words: list[object], message: str, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    to = [] if "lines" in words else ["-o", out]
    done = run(words[0], sheet(tmp_path), "--probability-field", "p", *to, *words[1:])
    assert (done.returncode in (1, 2), message in done.stderr) == (True, True), done.stderr
    assert [*tmp_path.glob("out*")] == []


@pytest.fixture
def keep(typed: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any, tmp_path: Path) -> Paw:
    """`paw-mlx filter`, in this process, of the texts by a program in the folder."""
    file = tmp_path / "app.log"
    file.write_text("".join(f"{text}\n" for text in TEXTS))
    call = inside(monkeypatch, capfdbinary)
    base = ["--interpreter", typed / "base"]
    return lambda name, *words: call("filter", typed / name, file, *words, *base)


def test_lines_are_kept_by_their_label_and_its_probability(
    keep: Paw, decided: dict[str, Decision], between: float
) -> None:
    label = next(each.label for each in decided.values() if each.probability < between)
    alike = {text: each for text, each in decided.items() if each.label == label}
    done = keep("labels.paw", "--keep", label.upper())
    assert done.stdout.decode().splitlines() == [*alike]
    sure = [text for text, each in alike.items() if each.probability > between]
    assert len(sure) < len(alike)
    done = keep("labels.paw", "--keep", label, "--min-probability", between, "--json")
    assert [row["input"] for row in objects(done.stdout)] == sure
    wanted = [word for known in LABELS for word in ("--keep", known)]
    rows = objects(keep("labels.paw", *wanted, "--min-probability", between, "--json").stdout)
    assert len(rows) == 3
    for row in rows:
        assert (row["output"], row["abstained"]) == (row["label"], False)
        assert row["probability"] == pytest.approx(max(row["probabilities"].values()))


def test_lines_without_a_likely_label_are_kept_by_what_is_said_instead(
    keep: Paw, decided: dict[str, Decision], between: float
) -> None:
    unsure = [text for text, each in decided.items() if each.probability < between]
    words = ["--threshold", between, "--keep"]
    done = keep("unsure.paw", *words, "Unsure", "--min-probability", 0.999)
    assert done.stdout.decode().splitlines() == unsure
    done = keep("labels.paw", "--otherwise", "ask", *words, "ask", "--json")
    rows = objects(done.stdout)
    assert {(row["output"], row["abstained"]) for row in rows} == {("ask", True)}
    done = keep("labels.paw", *words, decided[unsure[0]].label)
    assert unsure[0] not in done.stdout.decode().splitlines()
    assert ", 3 abstained, " in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["labels.paw", "--keep", "disc"], "the program never says disc: it says disk, server, "),
        (["unsure.paw", "--keep", "ask"], "it says disk, server, picnic, unsure"),
        (["labels.paw", "--labels", "a,b", "--keep", "disk"], "never says disk: it says a, b"),
        (["one.paw", "--keep", "disk", "--min-probability", 0.9], "the program's output is text"),
        (["one.paw", "--keep", "disk", "--threshold", 0.9], "the output is text"),
    ],
)
def test_what_can_keep_no_line_is_said_before_any_is_read(
    keep: Paw, words: list[object], message: str
) -> None:
    done = keep(*words)
    assert (done.returncode, done.stdout, message in done.stderr) == (1, b"", True), done.stderr
