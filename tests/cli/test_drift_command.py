"""`paw-mlx drift` as a shell sees it, on a tiny base."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from shell import Done, Paw, paw

from paw_mlx import Labels, formats, kept_cases, load, store
from paw_mlx.cases import Case

WORDS = ["disk", "server", "picnic", "Friday", "down", "spring", "all", "full", "welcome", "and"]
TEXTS = [f"{a} {b}" for a in WORDS for b in WORDS]
CASES, LIKE, LONGER = TEXTS[::2], TEXTS[1::2], [f"{text} " * 6 for text in TEXTS[1::2]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a program of labels, and one of text."""
    folder = tmp_path_factory.mktemp("drift")
    tiny.write_base(folder / "base", "llama")
    profile = tiny.profile("llama")
    formats.save(tiny.program("llama"), folder / "text.paw", dtype="f16", profile=profile)
    typed = replace(load(folder / "text.paw"), output=Labels(("down", "full")))
    formats.save(typed, folder / "log.paw", dtype=None, profile=profile)
    return folder


@pytest.fixture
def run(folder: Path, call: Paw) -> Paw:
    """`paw-mlx drift log …`, the program stored with its cases."""
    store.add(folder / "log.paw", "log")
    kept_cases.add("log", [Case(text, "down") for text in CASES])
    return lambda *words: call("drift", *words, "--interpreter", folder / "base")


def write(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(f"{text}\n" for text in texts))
    return path


def shown(done: Done) -> list[str]:
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().splitlines()


def test_inputs_like_the_cases(run: Paw, tmp_path: Path) -> None:
    lines = shown(run("log", write(tmp_path / "in.txt", LIKE), "--fail"))
    assert lines[0].split() == ["cases", "inputs", "distance", "p"]
    assert lines[1].split() == ["rows", "50", "50"]
    assert [line.split("  ")[0] for line in lines[2:7]] == [
        "median input length", "failed", "mean probability", "mean in scope", "outputs",
    ]  # fmt: skip
    assert {line.split()[0] for line in lines[7:9]} == {"down", "full"}
    assert lines[-1].startswith("no sign of drift: a distance of 0.3")


def test_longer_inputs_are_drift_and_fail_only_if_asked(run: Paw, tmp_path: Path) -> None:
    inputs = write(tmp_path / "in.txt", LONGER)
    verdict = next(line for line in shown(run("log", inputs)) if "longer" in line)
    assert verdict.startswith("drift: inputs are longer: median ")
    assert verdict.endswith(" characters (p < 0.001)")
    assert run("log", inputs, "--fail").returncode == 1


def test_few_inputs_tell_nothing(run: Paw, tmp_path: Path) -> None:
    assert shown(run("log", write(tmp_path / "in.txt", LIKE[:9])))[-1] == (
        "cannot tell with 9 inputs"
    )
    assert shown(run("log", write(tmp_path / "none.txt", [])))[-1] == "cannot tell with 0 inputs"


def test_json(run: Paw, tmp_path: Path) -> None:
    record = json.loads(run("log", write(tmp_path / "in.txt", LONGER), "--json").stdout)
    assert (record["verdict"], record["num_cases"], record["num_inputs"]) == ("drift", 50, 50)
    changes = {change["name"]: change for change in record["changes"]}
    assert {*changes} == {"input_length", "failed", "probability", "in_scope", "outputs"}
    assert changes["input_length"]["shifted"]
    assert changes["input_length"]["after"] > 5 * changes["input_length"]["before"]
    assert sum(after for _, after in record["shares"].values()) == pytest.approx(1)


def test_rows_of_any_format_with_what_is_malformed_counted(run: Paw, tmp_path: Path) -> None:
    rows = [json.dumps({"text": text, "output": "x"}) for text in LIKE] + ["no JSON"] * 20
    record = json.loads(run("log", write(tmp_path / "in.jsonl", rows), "--json").stdout)
    failed = next(change for change in record["changes"] if change["name"] == "failed")
    assert (failed["before"], failed["after"], failed["shifted"]) == (0, 20 / 70, True)
    assert "more inputs fail: 0.0% → 28.6%" in record["sentences"][0]
    table = write(tmp_path / "in.csv", ["id,body", *(f"{n},{text}" for n, text in enumerate(LIKE))])
    assert "no sign" in shown(run("log", table, "--field", "body"))[-1]
    wrong = run("log", table, "--field", "nope")
    assert wrong.returncode == 2
    assert "no field 'nope'" in wrong.stderr


def test_standard_input(run: Paw, folder: Path) -> None:
    done = paw(
        "drift", "log", "--interpreter", folder / "base",
        stdin="\n".join(LIKE).encode(), env=os.environ,
    )  # fmt: skip
    assert shown(done)[1].split() == ["rows", "50", "50"]


def test_other_rows_in_place_of_cases(run: Paw, folder: Path, tmp_path: Path) -> None:
    """Earlier inputs will do, without outputs and in any format."""
    earlier = write(
        tmp_path / "march.csv", ["id,body", *(f"{n},{t}" for n, t in enumerate(LONGER))]
    )
    now = write(tmp_path / "april.txt", LONGER[::-1])
    words = [folder / "log.paw", now, "--cases", earlier, "--cases-field", "body"]
    assert "no sign" in shown(run(*words))[-1]
    assert run(folder / "log.paw", now, "--cases-field", "body").returncode == 2


def test_programs_of_text(run: Paw, folder: Path, tmp_path: Path) -> None:
    inputs = write(tmp_path / "in.txt", LIKE)
    words = [folder / "text.paw", inputs, "--cases", write(tmp_path / "cases.txt", CASES)]
    lines = shown(run(*words, "--max-tokens", 4))
    assert [line.split("  ")[0] for line in lines[2:6]] == [
        "median input length", "failed", "median output length", "cut before the end",
    ]  # fmt: skip


def test_without_cases_it_says_how_to_get_some(run: Paw, folder: Path, tmp_path: Path) -> None:
    done = run(folder / "log.paw", write(tmp_path / "in.txt", LIKE))
    assert done.returncode == 1
    assert "no cases are kept with" in done.stderr
    assert "hint:" in done.stderr


def test_nothing_is_kept(run: Paw, tmp_path: Path) -> None:
    inputs = write(tmp_path / "in.txt", LIKE)
    before = {*tmp_path.iterdir()}, kept_cases.read("log")
    run("log", inputs)
    assert ({*tmp_path.iterdir()}, kept_cases.read("log")) == before
