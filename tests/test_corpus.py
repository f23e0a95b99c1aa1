"""The corpus: how it is read, and that what comes along keeps what it promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from paw_mlx import FormatError, NotFound, OptionError
from paw_mlx.cases import Case
from paw_mlx.corpus import FuzzyFunction, divide_corpus, read_corpus

FOLDER = Path(__file__).parents[1] / "benchmarks" / "functions"
ROW = {
    "function": "a/b",
    "kind": "topic",
    "family": "classify",
    "labels": ["yes", "no"],
    "specs": ["Say yes or no."],
    "cases": [{"input": "x", "output": "yes"}],
}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_function_has_specs_cases_and_labels(tmp_path):
    (function,) = read_corpus([write(tmp_path / "one.jsonl", ROW)])
    assert (function.name, function.kind, function.labels) == ("a/b", "topic", ("yes", "no"))
    assert [(case.input, case.output) for case in function.cases] == [("x", "yes")]
    assert read_corpus([tmp_path]) == [function]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": None}, "line 1: a function needs"),
        ({"specs": []}, "a/b needs specs"),
        ({"specs": ["", "x"]}, "a/b needs specs"),
        ({"cases": []}, "a/b has no cases"),
        ({"cases": [{"input": "x"}]}, "case 1 needs the texts"),
        ({"cases": [{"input": "x", "output": "maybe"}]}, "'maybe' is none of the labels"),
    ],
)
def test_what_is_no_function_is_named(tmp_path, change, says):
    with pytest.raises(FormatError, match=says):
        read_corpus([write(tmp_path / "one.jsonl", ROW | change)])


def test_a_name_is_one_function_s(tmp_path):
    with pytest.raises(FormatError, match="line 2: 'a/b' is there already"):
        read_corpus([write(tmp_path / "one.jsonl", ROW, ROW)])
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound, match=r"no \.jsonl file"):
        read_corpus([tmp_path / "empty"])


def test_every_spec_names_every_label_and_inputs_differ():
    for function in read_corpus([FOLDER, FOLDER / "train"]):
        assert len(function.specs) >= 3, function.name
        inputs = {case.input for case in function.cases}
        assert 8 <= len(inputs) == len(function.cases) <= 20, function.name
        lacking = [
            (label, spec)
            for label in function.labels or ()
            for spec in function.specs
            if label not in spec
        ]
        assert not lacking, function.name


def test_what_is_tested_stands_nowhere_else():
    kept = read_corpus([FOLDER / "test.jsonl"])
    others = read_corpus([FOLDER / "train"])
    inputs = {case.input for function in kept for case in function.cases}
    assert not inputs & {case.input for function in others for case in function.cases}
    assert not {spec for f in kept for spec in f.specs} & {s for f in others for s in f.specs}
    assert len(kept) == 60


def functions(num: int, kind: str) -> list[FuzzyFunction]:
    case = Case("x", "yes")
    return [FuzzyFunction(f"{kind}/{n}", kind, kind, ("Say yes.",), (case,)) for n in range(num)]


def test_a_twentieth_is_held_out_and_every_kind_that_is_named():
    corpus = [*functions(400, "topic"), *functions(30, "dates")]
    parts = divide_corpus(corpus, ["dates"])
    assert parts.held_kinds == tuple(corpus[400:])
    assert set(parts.trained) | set(parts.unseen) == set(corpus[:400])
    assert not set(parts.trained) & set(parts.unseen)
    assert 8 <= len(parts.unseen) <= 32
    whole = divide_corpus(corpus)
    assert whole.held_kinds == ()
    assert set(parts.unseen) == {each for each in whole.unseen if each.kind == "topic"}


def test_what_is_held_out_depends_on_a_function_s_name_alone():
    corpus = functions(200, "topic")
    unseen = divide_corpus(corpus).unseen
    assert set(divide_corpus(corpus[::-1]).unseen) == set(unseen)
    some = corpus[50:]
    assert set(divide_corpus(some).unseen) == set(unseen) & set(some)


def test_a_kind_that_is_not_there_is_named():
    with pytest.raises(OptionError, match="of the kinds colours, dates"):
        divide_corpus(functions(2, "topic"), ["topic", "dates", "colours"])
