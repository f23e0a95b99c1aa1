"""The generated part of the corpus: the same on every run, sound, and apart from what is tested."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner

from paw_mlx.benchmarks.generators.__main__ import main
from paw_mlx.benchmarks.generators.banks import BANKS, meanings
from paw_mlx.benchmarks.generators.corpus import draw_corpus, to_text
from paw_mlx.benchmarks.generators.families import KINDS, REGISTRY, kind_of
from paw_mlx.corpus import FuzzyFunction, read_corpus

FOLDER = Path(__file__).parents[2] / "benchmarks" / "functions"
GENERATED = FOLDER / "train" / "generated.jsonl"
FAMILIES = {"classify", "yesno", "extract", "transform", "json", "rank", "route"}

# Kinds so wide that the tests have one function and others have some, too.
WIDE = {"date-format", "extract-name", "json-build", "json-get", "json-to-text"}

# Generators that there were, and that asked for what a function of test.jsonl asks for.
TESTED = {
    "bullets",  # test/bullet-points
    "extract-version",  # test/software-version
    "initials",  # test/initials
    "json-array",  # test/list-to-json-array
    "json-get",  # test/json-status
    "sort-list",  # test/sort-words
    "the-question",  # test/question-in-mail
}


@pytest.fixture(scope="module")
def generated() -> list[FuzzyFunction]:
    """What comes along."""
    return read_corpus([GENERATED])


@pytest.fixture(scope="module")
def kept() -> list[FuzzyFunction]:
    """What no compiler is trained on."""
    return read_corpus([FOLDER / "test.jsonl"])


def maker_of(function: FuzzyFunction) -> str:
    """The generator that drew a function, by the function's name."""
    return function.name.removeprefix("generated/").rpartition("-")[0]


def test_a_seed_is_a_corpus():
    assert draw_corpus(3, 50) == draw_corpus(3, 50)
    assert to_text(draw_corpus(3, 50)) == "".join(to_text([row]) for row in draw_corpus(3, 50))
    specs = {str(row["specs"]) for row in draw_corpus(3, 50)}
    assert not specs & {str(row["specs"]) for row in draw_corpus(4, 50)}


@pytest.mark.parametrize("hashes", ["0", "77"])
def test_a_corpus_hangs_on_no_order_of_sets(hashes):
    call = "from paw_mlx.benchmarks.generators.corpus import *; print(to_text(draw_corpus(5, 30)))"
    told = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", call],
        env={**os.environ, "PYTHONHASHSEED": hashes},
        capture_output=True,
        check=True,
    )
    assert told.stdout.decode() == to_text(draw_corpus(5, 30)) + "\n"


def test_the_command_writes_what_comes_along(tmp_path):
    ran = CliRunner().invoke(main, ["-o", str(tmp_path / "new.jsonl")])
    assert ran.exit_code == 0, ran.output
    assert (tmp_path / "new.jsonl").read_bytes() == GENERATED.read_bytes()
    assert GENERATED.stat().st_size < 1.3e6


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_functions_keep_the_rules_of_the_corpus(seed, tmp_path):
    (tmp_path / "drawn.jsonl").write_text(to_text(draw_corpus(seed, 600)), encoding="utf-8")
    for function in read_corpus([tmp_path / "drawn.jsonl"]):
        where = function.name
        assert function.family in FAMILIES, where
        assert 3 <= len(function.specs) == len(set(function.specs)) <= 4, where
        assert all(len(spec) <= 900 and "${" not in spec for spec in function.specs), where
        inputs = {case.input for case in function.cases}
        assert 10 <= len(inputs) == len(function.cases) <= 12, where
        assert all(case.input and len(case.input) <= 400 for case in function.cases), where
        assert all(case.output and len(case.output) <= 160 for case in function.cases), where
        shown = {text for s in function.specs for text in re.findall(r"\nInput: (.*)\nOut", s)}
        assert not inputs & shown, where
        if function.labels is None:
            assert len({case.output for case in function.cases}) > 2, where
            continue
        assert all(label in spec for label in function.labels for spec in function.specs), where
        counts = Counter(case.output for case in function.cases)
        assert set(counts) == set(function.labels), where
        assert len(set(counts.values())) == 1, where


def test_two_classes_have_names_either_way_round():
    """A yes may be a YES or a NO: whoever guesses by the name alone is wrong."""
    rows = [row for seed in range(4) for row in draw_corpus(seed, 600)]
    for pair in ({"YES", "NO"}, {"yes", "no"}, {"1", "0"}, {"A", "B"}):
        told = " ".join(str(row["specs"]) for row in rows if pair == set(row["labels"] or ()))
        assert set(re.findall(r"Answer (\S+) if ", told)) == pair


def test_what_is_tested_is_never_drawn(generated, kept):
    assert not TESTED & {source.name for source in REGISTRY}
    kinds = {function.kind for function in kept} - WIDE
    assert not kinds & {kind_of(source.name) for source in REGISTRY}
    # Of the wide kinds: the long form of an ISO date; a food, among the categories.
    for function in generated:
        if maker_of(function) == "date-format":
            case = function.cases[0]
            iso = re.fullmatch(r"\d{4}-\d\d-\d\d", case.input)
            assert not (iso and re.fullmatch(r"\d+ [A-Z][a-z]{3,} \d{4}", case.output))
        if maker_of(function) == "category-yes-no":
            assert "a dish or food" not in function.specs[0]
    inputs = {case.input.casefold() for function in kept for case in function.cases}
    drawn = {case.input.casefold() for function in generated for case in function.cases}
    assert not inputs & drawn


def test_every_generator_has_a_kind_and_a_name_of_its_own():
    names = [source.name for source in REGISTRY]
    assert len(names) == len(set(names))
    listed = " ".join(KINDS.values()).split()
    assert len(listed) == len(set(listed))
    assert set(listed) <= set(names)
    assert kind_of("fondness-pair") == "sentiment"
    assert kind_of("emotion-yes-no") == "emotion"
    assert kind_of("topic-yes-no") == "topic"
    assert all(len(meanings(bank)) >= 2 for bank in BANKS)


def test_what_is_held_out_is_there_and_is_not_tested(generated, kept):
    held = (FOLDER / "held_out.txt").read_text().split()
    assert len(held) == len(set(held)) == 8
    by_hand = read_corpus(
        [FOLDER / "train" / f"{name}.jsonl" for name in ("everyday", "classify", "extract")]
    )
    for functions in (generated, by_hand):
        counts = Counter(function.kind for function in functions)
        assert all(counts[kind] >= 2 for kind in held), counts
    assert not set(held) & {function.kind for function in kept}


def sorted_numbers(text: str, spec: str) -> str:
    """Sort as a spec of sort-numbers says."""
    mark = re.search(r'with "([^"]*)" between', spec)
    assert mark is not None
    down = re.search("largest (first|to)|falling|Descending|go down", spec) is not None
    return mark[1].join(sorted(re.findall(r"\d+", text), key=float, reverse=down))


def grouped(text: str, spec: str) -> str:
    """Group digits with the mark that a spec quotes."""
    mark = re.search(r'"(.)"', spec)
    assert mark is not None
    return re.sub(r"(?<=\d)(?=(\d{3})+$)", mark[1], text)


def clock(text: str, _: str) -> str:
    """Read a time of the 12-hour clock."""
    half = re.sub(r"\s", "", text).upper()
    return datetime.strptime(half, "%I:%M%p" if ":" in half else "%I%p").strftime("%H:%M")


def repaired(text: str, wanted: str) -> bool:
    """Tell whether a repair keeps every letter and digit."""
    plain = re.sub(r"\W", "", text.replace("```json", "").replace("True", "true"))
    return plain.replace("False", "false") == re.sub(r"\W", "", wanted)


def parameter(text: str, spec: str) -> str:
    """Read the parameter of a URL that the spec names; what the spec says if it is not there."""
    key = re.search(r"\b(id|lang|page|ref|sort|token|user|q)\b", spec)
    absent = re.search(r"NONE|none|n/a|null|EMPTY|(?<= )-(?=[ .])", spec)
    assert key is not None
    assert absent is not None
    return parse_qs(urlsplit(text).query).get(key[1], [absent[0]])[0]


ORACLES: dict[str, Callable[[str, str], str]] = {
    "upper": lambda text, _: "".join(sign.upper() for sign in text),
    "swap": lambda text, _: "".join(s.lower() if s.isupper() else s.upper() for s in text),
    "path-name": lambda text, _: PurePosixPath(text).name,
    "path-stem": lambda text, _: PurePosixPath(text).stem,
    "path-folder": lambda text, _: PurePosixPath(text).parent.name,
    "path-extension": lambda text, _: PurePosixPath(text).suffix[1:],
    "url-host": lambda text, _: urlsplit(text).netloc,
    "url-last": lambda text, _: PurePosixPath(urlsplit(text).path).name,
    "url-query": parameter,
    "count-words": lambda text, _: str(len(re.findall(r"\w+", text))),
    "reverse-letters": lambda text, _: "".join(reversed(text)),
    "sort-numbers": sorted_numbers,
    "thousands": grouped,
    "time-to-24": clock,
    "minutes": lambda text, _: "{} h {} min".format(*divmod(int(text.split()[0]), 60)),
    "phone-digits": lambda text, _: "".join(filter(str.isdigit, text)),
    "slug": lambda text, _: "-".join(re.findall(r"[a-z0-9]+", text.lower())),
    "words-of": lambda text, _: " ".join(re.findall(r"[A-Z]?[a-z]+", text)).lower(),
    "html-strip": lambda text, _: re.sub("<.*?>", "", text),
    "collapse-blanks": lambda text, _: re.sub(" +", " ", text).strip(),
    "json-count": lambda text, _: str(len(json.loads(text))),
    "json-build": lambda text, _: json.dumps(
        dict(line.split(": ", 1) for line in text.splitlines()), ensure_ascii=False
    ),
}


def drawn_by(maker: str, generated: list[FuzzyFunction]) -> list[FuzzyFunction]:
    """The functions of a generator that come along, which are some."""
    found = [function for function in generated if maker_of(function) == maker]
    assert found, maker
    return found


@pytest.mark.parametrize("maker", ORACLES)
def test_outputs_are_what_another_way_to_compute_them_gives(maker, generated):
    for function in drawn_by(maker, generated):
        for case in function.cases:
            assert ORACLES[maker](case.input, function.specs[0]) == case.output, function.name


def test_json_is_json_and_repairs_keep_what_was_there(generated):
    for function in generated:
        wanted = [case.output for case in function.cases]
        if function.kind in ("json-build", "json-edit", "json-flatten"):
            assert [json.dumps(json.loads(t), ensure_ascii=False) for t in wanted] == wanted
        if maker_of(function) == "json-repair":
            for case in function.cases:
                json.loads(case.output)
                assert repaired(case.input, case.output), (case.input, case.output)


def test_extracts_stand_in_their_texts(generated):
    for function in generated:
        if function.family != "extract":
            continue
        for case in function.cases:
            marks = (", ", "; ", " | ", " / ")
            parts = [all(t in case.input for t in case.output.split(mark)) for mark in marks]
            absent = all(case.output in spec for spec in function.specs)
            assert any(parts) or absent, (function.name, case)
