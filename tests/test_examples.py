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
GENERATED = ["json-repair", "key-extraction"]
ALL = [*NAMES, "key-extraction", "search-ranking"]
RANKS = ("exact", "related", "off")  # the best first
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


@pytest.mark.parametrize("name", ALL)
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


@pytest.mark.parametrize("name", GENERATED)
def test_generator_reproduces_the_committed_rows(name: str, tmp_path: Path) -> None:
    script = EXAMPLES / name / "generate.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True)
    for part in PARTS:
        committed = script.with_name(f"{part}.jsonl").read_bytes()
        assert (tmp_path / f"{part}.jsonl").read_bytes() == committed


def extracted(part: str) -> list[tuple[str, dict[str, str | None]]]:
    return [(row["input"], json.loads(row["output"])) for row in rows("key-extraction", part)]


@pytest.mark.parametrize("part", PARTS)
def test_extracted_keys_are_of_the_schema_and_stand_in_the_message(part: str) -> None:
    schema = json.loads((EXAMPLES / "key-extraction" / "schema.json").read_text(encoding="utf-8"))
    assert schema["required"] == list(schema["properties"])
    for row, (text, found) in zip(rows("key-extraction", part), extracted(part), strict=True):
        assert row["output"] == canonical(found)
        assert len(text) < 220
        assert len(row["output"]) < 120
        assert list(found) == schema["required"]
        for key, value in found.items():
            if value is not None:
                assert value in text
                assert len(value) <= schema["properties"][key]["maxLength"]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("key", ["name", "date", "amount"])
def test_extracted_keys_are_often_there_and_often_not(part: str, key: str) -> None:
    there = [found[key] is not None for _, found in extracted(part)]
    assert 0.4 <= sum(there) / len(there) <= 0.65


def test_held_out_messages_are_to_people_of_their_own() -> None:
    seen, held_out = ({found["name"] for _, found in extracted(part)} - {None} for part in PARTS)
    assert len(held_out) >= 20
    assert held_out.isdisjoint(seen)


def queries(part: str) -> dict[str, list[tuple[str, str]]]:
    """(query, label) of the results, by group."""
    found: dict[str, list[tuple[str, str]]] = {}
    for row in rows("search-ranking", part):
        query, result = row["input"].split("\n")
        assert query.startswith("Query: ")
        assert result.startswith("Result: ")
        found.setdefault(row["group"], []).append((query, row["output"]))
    return found


@pytest.mark.parametrize(("part", "num"), [("train", 60), ("test", 20)])
def test_each_query_has_one_group_with_every_rank_in_it(part: str, num: int) -> None:
    groups = queries(part)
    assert len(groups) >= num
    assert all(len({query for query, _ in group}) == 1 for group in groups.values())
    assert all({label for _, label in group} == {*RANKS} for group in groups.values())
    assert all(4 <= len(group) <= 5 for group in groups.values())


def test_no_query_is_both_trained_on_and_held_out() -> None:
    seen, held_out = ([group[0][0] for group in queries(part).values()] for part in PARTS)
    assert len({*seen, *held_out}) == len(seen) + len(held_out)


def test_the_ranking_spec_names_the_best_label_first() -> None:
    spec = (EXAMPLES / "search-ranking" / "spec.txt").read_text(encoding="utf-8").strip()
    assert spec.endswith("Return ONLY one of: " + ", ".join(RANKS))
