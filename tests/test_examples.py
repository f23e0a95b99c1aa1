"""The example data is well-formed, balanced, held out, and reproducible."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
LABELS = {"log-triage": {"ALERT", "QUIET"}, "email-triage": {"immediate", "wait"}}
NAMES = [*LABELS, "json-repair"]
PARTS = ("train", "test")


def rows(name: str, part: str) -> list[dict[str, str]]:
    text = (EXAMPLES / name / f"{part}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def canonical(value: Any) -> str:
    return json.dumps(value, separators=(", ", ": "), ensure_ascii=False)


def strings(value: Any) -> Iterator[str]:
    """The string values (not the keys) anywhere in `value`."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", PARTS)
def test_rows_are_an_input_and_an_output_on_one_line(name: str, part: str) -> None:
    for row in rows(name, part):
        assert row.keys() == {"input", "output"}
        for text in row.values():
            assert isinstance(text, str)
            assert text == text.strip() != ""
            assert "\n" not in text


@pytest.mark.parametrize("name", NAMES)
def test_sizes_suit_a_demo(name: str) -> None:
    assert 400 <= len(rows(name, "train")) <= 1300
    assert 60 <= len(rows(name, "test")) <= 100


@pytest.mark.parametrize("name", NAMES)
def test_no_input_occurs_twice_or_on_both_sides(name: str) -> None:
    inputs = [" ".join(row["input"].lower().split()) for part in PARTS for row in rows(name, part)]
    assert [text for text, count in Counter(inputs).items() if count > 1] == []


@pytest.mark.parametrize("name", LABELS)
def test_spec_names_exactly_the_labels(name: str) -> None:
    spec = (EXAMPLES / name / "spec.txt").read_text(encoding="utf-8").strip()
    _, ending = spec.rsplit("Return ONLY one of: ", 1)
    assert set(ending.split(", ")) == LABELS[name]


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("part", PARTS)
def test_labels_are_closed_and_balanced(name: str, part: str) -> None:
    counts = Counter(row["output"] for row in rows(name, part))
    assert counts.keys() == LABELS[name]
    assert all(0.45 <= count / counts.total() <= 0.55 for count in counts.values())


@pytest.mark.parametrize("name", LABELS)
def test_first_held_out_rows_show_both_labels(name: str) -> None:
    shown = Counter(row["output"] for row in rows(name, "test")[:4])
    assert set(shown.values()) == {2}


@pytest.mark.parametrize("part", PARTS)
def test_repairs_are_canonical_json_and_inputs_are_broken(part: str) -> None:
    for row in rows("json-repair", part):
        assert canonical(json.loads(row["output"])) == row["output"]
        with pytest.raises(ValueError):
            json.loads(row["input"])


def test_held_out_repairs_share_no_record_and_no_string_with_training() -> None:
    train, test = ([row["output"] for row in rows("json-repair", part)] for part in PARTS)
    assert len({*train, *test}) == len(train) + len(test)
    seen = {text for output in train for text in strings(json.loads(output))}
    held_out = {text for output in test for text in strings(json.loads(output))}
    assert held_out
    assert held_out.isdisjoint(seen)


def test_generator_reproduces_the_committed_repairs(tmp_path: Path) -> None:
    script = EXAMPLES / "json-repair" / "generate.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True)
    for part in PARTS:
        committed = script.with_name(f"{part}.jsonl").read_bytes()
        assert (tmp_path / f"{part}.jsonl").read_bytes() == committed
