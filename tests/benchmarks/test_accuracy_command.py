"""`paw-mlx bench accuracy` as a shell sees it."""

from __future__ import annotations

import json
import os

from fuzzy_rows import ROWS, write_jsonl
from shell import inside
from studies import records

from paw_mlx.benchmarks.speed import worker


def test_the_command_prints_one_line_of_json(base, tmp_path, monkeypatch, capfdbinary):
    paw = inside(monkeypatch, capfdbinary)
    rows = write_jsonl(tmp_path / "rows.jsonl")
    words = ["bench", "accuracy", rows, "--interpreter", base, "--steps", "3", "--seed", "1"]
    words += ["--method", "bare", "--method", "tuned-2", "--method", "program"]
    words += ["--noise", "paraphrase"]
    done = paw(*words, "--positive", "yes", "--json", "--answers", tmp_path / "answers.jsonl")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    report = json.loads(line)
    assert (report["schema"], report["kind"], report["synthetic"]) == (1, "accuracy", False)
    about = report["settings"]
    assert (about["source"], about["functions"], about["seed"]) == ("rows.jsonl", 3, 1)
    assert about["rows"] == 7
    assert {(r["method"], r["noise"]) for r in report["rows"]} == {
        ("bare", None), ("tuned-2", None), ("tuned-2", "paraphrase"),
        ("program", None), ("program", "paraphrase"),
    }  # fmt: skip
    assert report["rows"][0]["group"] == "all"
    assert str(tmp_path).encode() not in line
    assert len(records(tmp_path / "answers.jsonl")) == 3 * 7
    again = paw(*words, "--answers", tmp_path / "answers.jsonl", "-o", tmp_path / "out")
    assert "21 so far" in again.stderr
    assert list((tmp_path / "out").glob("*-accuracy.json"))


def test_the_command_trains_on_half_of_a_single_function(base, tmp_path, monkeypatch, capfdbinary):
    paw = inside(monkeypatch, capfdbinary)
    awake = []
    monkeypatch.setattr(worker, "keep_awake", awake.append)
    rows = write_jsonl(tmp_path / "rows.jsonl", ROWS[:6])
    words = ("--interpreter", base, "--steps", "3", "--offline", "--json")
    done = paw("bench", "accuracy", rows, *words)
    report = json.loads(done.stdout)
    ran = {row["method"] for row in report["rows"] if "skipped" not in row}
    assert ran == {"bare", "prompted", "tuned-5", "tuned-20", "tuned-all"}
    assert report["settings"]["rows"] == 3
    assert "clustered" not in report["settings"]
    assert awake == [os.getpid()]
    several = write_jsonl(tmp_path / "several.jsonl")
    about = json.loads(paw("bench", "accuracy", several, *words).stdout)["settings"]
    assert (about["rows"], about["clustered"]) == (14, 3)


def test_the_command_fails_if_nothing_could_run(base, tmp_path, monkeypatch, capfdbinary):
    paw = inside(monkeypatch, capfdbinary)
    rows = write_jsonl(tmp_path / "rows.jsonl", ROWS[:6])
    done = paw("bench", "accuracy", rows, "--interpreter", base, "--method", "program", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["rows"][0]["skipped"]


def test_the_command_says_that_a_logs_halves_are_alike(base, tmp_path, monkeypatch, capfdbinary):
    paw = inside(monkeypatch, capfdbinary)
    (tmp_path / "a.log").write_text("- all is well\nAPP failed\n- all is good\nAPP failing\n")
    words = ("--interpreter", base, "--method", "bare", "--json")
    about = json.loads(paw("bench", "accuracy", tmp_path / "a.log", *words).stdout)["settings"]
    assert "nearly alike lie in both halves" in about["groups"]


def test_the_command_refuses_what_is_wrong(base, tmp_path, monkeypatch, capfdbinary):
    paw = inside(monkeypatch, capfdbinary)
    rows = write_jsonl(tmp_path / "rows.jsonl", ROWS[:6])
    start = ("bench", "accuracy", rows, "--interpreter", base)
    assert "there is no method 'best'" in paw(*start, "--method", "best").stderr
    refused = paw(*start, "--method", "bare", "--positive", "maybe")
    assert "no output is 'maybe'" in refused.stderr
    assert "There are no, yes." in refused.stderr
    done = paw(*start, "--method", "bare", "--json")  # answers are kept without being asked for
    assert done.returncode == 0
    assert paw(*start, "--method", "bare", "--json", "--steps", "0").returncode == 0
