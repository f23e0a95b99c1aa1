"""`paw-mlx pairs` as its user meets it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from teacher_server import SPEC, Teacher, serving_teacher

from paw_mlx.cases import read_cases


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Teacher]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving_teacher(Teacher()) as served:
        yield served


def spoil(question: str, answer: str) -> str:
    """Answer every third output with another, and cut every list."""
    if "[INPUT]" in question:
        return "perhaps" if len(question) % 3 == 0 else answer
    return answer[:-9]


def test_it_says_what_it_kept_and_what_it_dropped_and_why(call, teacher, tmp_path):
    teacher.spoil = spoil
    out = tmp_path / "pairs.jsonl"
    done = call("pairs", SPEC, "--teacher", teacher.url, "-n", "30", "-o", out)
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0
    assert [line.split() for line in lines[1:4]] == [
        ["kept", "30"],
        *([x, y] for x, y in counts(out)),
    ]
    reasons = {line.strip().rsplit("  ", 1)[0].strip() for line in lines[5:-2]}
    assert {"malformed", "output of another type"} <= reasons
    assert lines[-1].startswith("30 of 30 pairs, by ")
    assert f"{teacher.url} tutor" in lines[-1]
    assert done.stderr == f"labels from the spec: yes, no\nwrote {out}\n"
    again = call("pairs", SPEC, "--teacher", teacher.url, "-n", "30", "-o", out)
    assert "30 of 30 pairs, 30 of them earlier" in again.stdout.decode()


def counts(out):
    outputs = [case.output for case in read_cases(out)]
    return [(label, str(outputs.count(label))) for label in ("yes", "no")]


def test_json_says_the_same(call, teacher, tmp_path):
    spec, out = tmp_path / "spec.txt", tmp_path / "pairs.jsonl"
    spec.write_text(f"{SPEC}\n")
    words = ["--teacher", teacher.url, "--teacher-model", "tutor", "-n", "12", "-o", out]
    done = call("pairs", "-f", spec, *words, "--json")
    record = json.loads(done.stdout)
    assert done.stderr == ""
    assert (record["kept"], record["wanted"], record["stopped"]) == (12, 12, None)
    assert record["by_label"] == {label: int(num) for label, num in counts(out)}
    assert record["output"] == {"type": "labels", "labels": ["yes", "no"]}
    assert record["path"] == str(out)
    state = json.loads((tmp_path / "pairs.jsonl.state.json").read_text())
    assert state["terms"]["spec"] == SPEC


def test_fewer_than_were_asked_for_are_kept_and_said_so(call, teacher, tmp_path):
    teacher.spoil = lambda question, answer: '[{"input": "bread", "output": "yes"}]'
    out = tmp_path / "pairs.jsonl"
    done = call("pairs", SPEC, "--teacher", teacher.url, "-n", "5", "-o", out)
    assert done.returncode == 1
    lines = done.stdout.decode().splitlines()
    assert lines[-2:] == [
        "none with the label yes, no",
        "stopped: 5 rounds of questions gave nothing new",
    ]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--teacher", "http://example.org/v1"], 1, "is no address to send a spec to"),
        (["--teacher", "gone.jsonl"], 1, "no such file: gone.jsonl"),
        (["--teacher", "gone.jsonl", "--teacher-model", "x"], 1, "is no URL"),
        (["--offline"], 1, "Qwen3-4B-Instruct-2507-4bit"),
        (["-n", "0"], 2, "0 is not in the range"),
        (["--text", "--labels", "a,b"], 2, "--text is for outputs of no other type"),
        (["-o", "no/such/folder/x.jsonl", "--teacher", "gone.jsonl"], 1, "cannot write"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_written(call, tmp_path, words, code, said):
    out = tmp_path / "pairs.jsonl"
    done = call("pairs", SPEC, "-o", out, *words)
    assert done.returncode == code
    assert said in done.stderr
    assert not out.exists()
