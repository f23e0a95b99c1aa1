"""How good compiled programs are: what is asked, who answers, and what is said of it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import toy_compilers as toy
from shell import Paw, inside

from paw_mlx import OptionError
from paw_mlx.benchmarks.quality import questions, scores, study
from paw_mlx.benchmarks.quality.questions import SETS, ask, is_arbitrary, read_sets
from paw_mlx.benchmarks.quality.study import Answered
from paw_mlx.cases import Case
from paw_mlx.corpus import divide_corpus
from paw_mlx.evaluation import Judged

KINDS = ["redaction", "tense"]
TEST = [toy.function(word, "test") for word in ("spring", "welcome")]
HELD = [toy.function("Friday", "names", "A", "B"), toy.function("down", "names", "spam", "ham")]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base with a window that has room for programs."""
    folder = tiny.write_base(tmp_path_factory.mktemp("bases") / "roomy", "llama")
    (folder / "config.json").write_text(tiny.changed("llama", max_position_embeddings=1024))
    return folder


@pytest.fixture(scope="module")
def compilers(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A compiler, and a fixed one, trained for a few steps on the tiny base."""
    folder = tmp_path_factory.mktemp("compilers")
    toy.train(base, folder / "own")
    toy.train(base, folder / "fixed", replace(toy.TOY, fixed=True, seed=1))
    return folder / "own", folder / "fixed"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Functions to train on, of a kind apart, and for tests."""
    folder = tmp_path / "functions"
    folder.mkdir()
    toy.write_corpus(folder / "all.jsonl", [*toy.FUNCTIONS, *HELD])
    toy.write_corpus(folder / "test.jsonl", TEST)
    return folder


@pytest.fixture
def run(
    base: Path,
    compilers: tuple[Path, Path],
    corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: Any,
) -> Paw:
    """The command, on the corpus, with the tiny compilers."""
    paw, (own, fixed) = inside(monkeypatch, capfdbinary), compilers
    known = ["--compiler", own, "--fixed", fixed, "--interpreter", base, "--hold-out", "names"]
    return lambda *words: paw("bench", "compile-quality", corpus, *known, *words)


# --- what is asked -------------------------------------------------------------------------


def test_only_what_a_compiler_never_saw_is_asked() -> None:
    sets = read_sets(questions.CORPUS, KINDS)
    assert {function.kind for function in sets["held-out"]} == set(KINDS)
    assert len(sets["test"]) == 60
    assert all(function.name.startswith("test/") for function in sets["test"])
    names = [function.name for found in sets.values() for function in found]
    assert len(names) == len(set(names))
    division = divide_corpus(questions.read_corpus(questions.CORPUS[:1]), KINDS)
    assert not set(names) & {function.name for function in division.trained}
    assert set(names) > {function.name for function in division.unseen} != set()


def test_functions_specs_and_cases_are_drawn_by_the_seed(corpus: Path) -> None:
    sets = read_sets([corpus], ["names"])

    def drawn(seed: int) -> list[tuple[Any, ...]]:
        found = ask(sets, SETS, 1, 5, seed)
        return [(each.function.name, each.task.spec, each.task.test) for each in found]

    assert drawn(1) == drawn(1)
    assert len({str(drawn(seed)) for seed in range(6)}) == 6
    assert all(len(test) == 5 for _, _, test in drawn(1))
    assert {spec for seed in range(30) for _, spec, _ in drawn(seed)} >= set(TEST[0].specs)
    with pytest.raises(OptionError, match="no function to judge"):
        ask(sets, ["unseen"], None, None, 0)


def test_cases_that_are_learned_from_are_not_judged_and_labels_balance(corpus: Path) -> None:
    (asked, _) = ask(read_sets([corpus], ["names"]), ["test"], None, None, 0)
    task = asked.learning(6, 0)
    assert task is not None
    assert Counter(example.output for example in task.train) == {"0": 3, "1": 3}
    assert len(task.test) == len(asked.task.test) - 6
    assert not {e.input for e in task.train} & {e.input for e in task.test}
    more = asked.learning(8, 0)
    assert more is not None
    assert set(task.train) < set(more.train)
    assert asked.learning(len(asked.function.cases), 0) is None


@pytest.mark.parametrize(
    "labels", ["A B", "1 0", "N Q", "hot cold", "RIGHT LEFT", "#1 #2", "wobri luka"]
)
def test_labels_whose_names_say_nothing_are_arbitrary(labels: str) -> None:
    assert is_arbitrary(labels.split())


@pytest.mark.parametrize(
    "labels", ["yes no", "Y N", "spam ham", "stuck moving", "A B C", "ok x", "T F"]
)
def test_labels_whose_names_say_something_are_not(labels: str) -> None:
    assert not is_arbitrary(labels.split())


# --- what is said of it --------------------------------------------------------------------


def answered(method: str, right: list[list[bool]], labels: tuple[str, str] = ("A", "B")) -> Any:
    """Answers of a method: a function for each list, its cases right or wrong, labels in turn."""
    found = []
    for number, one in enumerate(right):
        function = replace(toy.function("disk", "has"), name=f"f{number}", labels=labels)
        cases = [Case(str(i), labels[i % 2]) for i in range(len(one))]
        judged = [Judged.of(c, c.output if ok else "?") for c, ok in zip(cases, one, strict=True)]
        asked: Any = SimpleNamespace(
            set="test", function=function, is_arbitrary=is_arbitrary(labels)
        )
        found.append(Answered(method, asked, judged))
    return found


def test_functions_that_stand_or_fall_whole_widen_the_interval() -> None:
    whole = [[True] * 12] * 5 + [[False] * 12] * 5
    mixed = [[True, False] * 6] * 10
    (row, *_), (other, *_) = (scores.rows(answered("bare", each), 0) for each in (whole, mixed))
    assert (row["functions"], row["num"], row["accuracy"]) == (10, 120, 0.5)
    assert other["accuracy"] == 0.5
    assert row["low"] == pytest.approx(0.2, abs=0.06)
    assert row["high"] == pytest.approx(0.8, abs=0.06)
    assert other["low"] == pytest.approx(0.411, abs=0.002)  # Wilson's of 120 cases
    (none, *_) = scores.rows(answered("bare", [[False] * 12] * 10), 0)
    assert (none["low"], none["high"]) == (0, pytest.approx(0.031, abs=0.001))


def test_balanced_accuracy_does_not_reward_saying_one_label() -> None:
    skewed = [[True, False, True, False, True]] * 4  # A is right three times, B twice: always A
    (row, *_) = scores.rows(answered("bare", skewed), 0)
    assert row["accuracy"] == pytest.approx(0.6)
    assert (row["balanced"], row["arbitrary"]) == (0.5, 4)
    (plain, *_) = scores.rows(answered("bare", skewed, ("yes", "no")), 0)
    assert "balanced" not in plain


def test_a_gain_has_an_interval_by_function_unless_they_are_few() -> None:
    bare = answered("bare", [[False] * 4] * 12)
    compiled = answered("compiled", [[True] * 4] * 6 + [[False] * 4] * 6)
    few = scores.rows([*bare[:9], *compiled[:9]], 0)
    many = scores.rows([*bare, *compiled], 0)
    (short,), (long,) = (
        [row for row in found if (row["method"], row["group"]) == ("compiled", "all")]
        for found in (few, many)
    )
    assert (short["gain"], short["gain_low"]) == (pytest.approx(2 / 3), None)
    assert long["gain_low"] == pytest.approx(0.25, abs=0.06)
    assert long["gain_high"] == pytest.approx(0.75, abs=0.06)


def test_a_gain_is_over_another_method_on_the_same_cases() -> None:
    fixed = answered("fixed", [[True, False, False, False]] * 4)
    compiled = answered("compiled", [[True, True, False, False]] * 4)
    tuned = answered("tuned-2", [[True, True, True, True]] * 3)
    for each in tuned:
        each.judged[:2] = []  # learned from
    found = {
        r["method"]: r for r in scores.rows([*tuned, *compiled, *fixed], 0) if r["group"] == "all"
    }
    assert [*found] == ["fixed", "compiled", "tuned-2"]
    assert "gain" not in found["fixed"]
    assert (found["compiled"]["gain_over"], found["compiled"]["gain"]) == ("fixed", 0.25)
    assert (found["tuned-2"]["gain_over"], found["tuned-2"]["gain"]) == ("compiled", 1.0)


# --- the command ---------------------------------------------------------------------------


def test_every_method_answers_the_same_functions(run: Paw, tmp_path: Path) -> None:
    done = run("--tune", "4,99", "--steps", "2", "--cases", "9", "--json", "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    about = report["settings"]
    assert (report["kind"], about["source"], about["functions"]) == ("quality", "functions", 4)
    assert (about["compiler"], about["fixed"], about["held_kinds"]) == ("own", "fixed", ["names"])
    *measured, tuned, trained = report["rows"]
    assert "no compiled function has more than 99 cases" in tuned["skipped"]
    assert (tuned["method"], trained["method"]) == ("tuned-99", "trained-99")
    rows = {(r["set"], r["method"]): r for r in measured if r["group"] == "all"}
    methods = ["bare", "fixed", "compiled", "tuned-4", "trained-4"]
    assert [*rows] == [(name, method) for name in ("held-out", "test") for method in methods]
    for (_, method), row in rows.items():
        assert row["functions"] == 2
        assert row["num"] <= 18 if method.endswith("-4") else row["num"] == 18
        assert 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1
        assert "failed" not in row
    assert rows["held-out", "compiled"]["arbitrary"] == 1  # spam and ham are not
    assert rows["test", "trained-4"]["seconds"] > 0
    assert {r["group"] for r in measured} >= {"family: names", "kind: names", "kind: test"}
    (page,) = tmp_path.glob("*-quality.md")
    assert "## Functions of held-out kinds, by family" in page.read_text()
    assert str(tmp_path) not in page.read_text()


def test_programs_are_typed_by_labels_and_the_compiler_is_heard(run: Paw, monkeypatch: Any) -> None:
    """An answer is a label whatever the base says, and the adapters change answers."""
    said: dict[str, set[tuple[str, ...]]] = {}
    real = study.Judged.of

    def of(case: Case, answer: Any) -> Judged:
        assert answer in ("0", "1", "A", "B", "spam", "ham")
        return real(case, answer)

    monkeypatch.setattr(study.Judged, "of", of)
    kept = study.Study._answer

    def answer(self: Any, method: str, *more: Any) -> Answered:
        made = kept(self, method, *more)
        said.setdefault(method, set()).add(tuple(one.output for one in made.judged))
        return made

    monkeypatch.setattr(study.Study, "_answer", answer)
    assert run("--json").returncode == 0
    assert len({frozenset(outputs) for outputs in said.values()}) == 3


def test_an_interrupt_leaves_what_was_measured(run: Paw, monkeypatch: Any, tmp_path: Path) -> None:
    kept = study.Study._answer

    def answer(self: Any, method: str, asked: Any, *more: Any) -> Answered:
        if asked.set == "test":
            raise KeyboardInterrupt
        return kept(self, method, asked, *more)

    monkeypatch.setattr(study.Study, "_answer", answer)
    done = run("-o", tmp_path)
    assert done.returncode != 0
    assert "cut short: it was interrupted" in done.stdout.decode()
    (path,) = tmp_path.glob("*-quality.json")
    rows = json.loads(path.read_text())["rows"]
    assert {row["set"] for row in rows} == {"held-out"}
    assert {row["method"] for row in rows} == {"bare", "fixed", "compiled"}
    assert "held-out: names/Friday, compiled: " in done.stderr


def test_a_spec_that_cannot_be_compiled_is_wrong_and_stops_no_other(run: Paw, corpus: Path) -> None:
    long = replace(TEST[0], specs=("disk " * 999,))
    toy.write_corpus(corpus / "test.jsonl", [long, TEST[1]])
    report = json.loads(run("--sets", "test", "--json").stdout)
    (row,) = (r for r in report["rows"] if (r["method"], r["group"]) == ("compiled", "all"))
    assert (row["functions"], row["failed"]) == (2, len(long.cases))
    toy.write_corpus(corpus / "test.jsonl", [long])
    done = run("--sets", "test", "--json")
    assert done.returncode == 1
    assert "no program of 1 functions ran" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--tune", "1"), "--tune takes numbers of cases from 2, as in 5,20, not '1'"),
        (("--sets", "tests"), "there is no set 'tests'"),
        (("--functions", "0"), "must be at least 1"),
        (("--hold-out", "nothing"), "no function of the corpus is of the kinds nothing"),
    ],
)
def test_the_command_refuses_what_is_wrong(run: Paw, words: tuple[str, ...], says: str) -> None:
    done = run(*words)
    assert done.returncode != 0
    assert says in done.stderr
