"""Tuning on a tiny base: what is trained on, what judges it, and what is promoted."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import small_tunings as small
import tiny

from paw_mlx import FormatError, OptionError
from paw_mlx.cases import Case, deal
from paw_mlx.evaluation import Gate
from paw_mlx.program import Program
from paw_mlx.training import tune as tuning
from paw_mlx.training.recipe import Recipe
from paw_mlx.training.replay import Begun, case_key, choose_rows, replay
from paw_mlx.training.tune import tune

RECIPE = Recipe(steps=30, learning_rate=3e-3, checks=3)
TEXTS = random.Random(2).sample(small.INPUTS, 200)
CASES = [Case(text, small.right(text)) for text in TEXTS]
FIRST, CASES, PAIRS = CASES[:40], CASES[40:100], CASES[100:120]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return small.make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def old(base) -> Program:
    made = small.make_program(base, FIRST, 20)
    return replace(made, meta=made.meta | {"program_id": "one", "note": "kept"})


@pytest.fixture
def trained_on(monkeypatch) -> list[set[str]]:
    """What each training gets to see, its held-out rows too; the trainings are real."""
    found, fit = list[set[str]](), tuning.fit_adapter

    def watch(base, template, rows, held_out, *more, **others):
        found.append({row.input for row in [*rows, *held_out]})
        return fit(base, template, rows, held_out, *more, **others)

    monkeypatch.setattr(tuning, "fit_adapter", watch)
    return found


def test_a_program_gets_better_by_cases_that_judge_only_what_never_saw_them(base, old, trained_on):
    tuned = tune(base, old, [*CASES, *FIRST], PAIRS, RECIPE)
    assert tuned.promoted, tuned.verdict
    assert (tuned.num_folds, tuned.num_seen) == (5, len(FIRST))
    judged = [one.input for one in tuned.new.judged]
    assert sorted(judged) == sorted(case.input for case in CASES)  # pairs and seen cases judge not
    assert judged == [one.input for one in tuned.old.judged]
    everything = {row.input for row in [*CASES, *FIRST, *PAIRS]}
    *parts, last = trained_on
    assert last == everything
    assert len(parts) == 5
    assert sorted(text for part in parts for text in everything - part) == sorted(judged)
    program = tuned.program
    assert (program.template, program.spec, program.output) == (old.template, "Triage.", old.output)
    assert (program.adapter.ranks, program.adapter.alphas) == ((8,), (16.0,))
    assert program.meta["note"] == "kept"
    assert program.id not in (old.id, "one")
    assert set(program.meta["training"]["seen"]) == {case_key(r) for r in [*CASES, *FIRST, *PAIRS]}
    fresh = TEXTS[120:]
    assert small.accuracy(base, program, fresh) > small.accuracy(base, old, fresh)


def test_enough_cases_are_judged_by_a_third_that_is_held_out(base, old, monkeypatch, trained_on):
    monkeypatch.setattr(tuning, "HELD_OUT_FROM", 60)
    tuned = tune(base, old, CASES, (), RECIPE)
    assert (tuned.num_folds, len(trained_on)) == (0, 1)
    held_out = {one.input for one in tuned.new.judged}
    assert len(held_out) == 20
    assert trained_on[0] == {case.input for case in CASES} - held_out
    outputs = [one.right for one in tuned.new.judged]
    share = sum(case.output == "A" for case in CASES) / len(CASES)
    assert outputs.count("A") == pytest.approx(20 * share, abs=1)
    assert tuned.promoted == (tuned.program is not None)


def test_nothing_is_trained_where_nothing_could_be_promoted(base, old, trained_on):
    for cases, told in (
        (FIRST, "every case was trained on before"),
        (CASES[:3], "too few to tell; about"),
    ):
        tuned = tune(base, old, cases, PAIRS, RECIPE)
        assert (tuned.program, tuned.promoted, tuned.new) == (None, False, None)
        assert told in tuned.verdict.reason
    assert trained_on == []
    short = replace(RECIPE, steps=1)
    tuned = tune(base, old, CASES[:3], PAIRS, short, anyway=True)  # but the wish for a file is met
    assert tuned.program
    assert not tuned.promoted
    assert len(trained_on) == 1


def test_what_fails_the_gate_is_not_promoted(base, old):
    tuned = tune(base, old, CASES, (), RECIPE, gate=Gate.parse("accuracy>=0.999"))
    assert tuned.verdict.promoted
    assert not tuned.promoted
    assert tuned.program is None
    assert tuned.missed[0].sentence.startswith("accuracy is")
    with pytest.raises(OptionError, match="the gate asks for recall"):
        tune(base, old, CASES[:8], (), RECIPE, gate=Gate.parse("recall[C]>=0.5"))


def test_a_last_training_that_went_wrong_is_not_promoted(base, old, monkeypatch):
    fit = tuning.fit_adapter
    whole = {case.input for case in CASES}

    def spoil(base, template, rows, held_out, *more, **others):
        fitted = fit(base, template, rows, held_out, *more, **others)
        if {row.input for row in [*rows, *held_out]} == whole:
            return replace(fitted, adapter=tiny.adapter(base.profile, rank=8, alpha=16.0))
        return fitted

    monkeypatch.setattr(tuning, "fit_adapter", spoil)
    tuned = tune(base, old, CASES, (), RECIPE)
    assert not tuned.promoted
    assert "trained on all 60 cases, it is right on" in tuned.verdict.reason


def test_no_cases_and_cases_of_another_type_are_refused(base, old):
    with pytest.raises(OptionError, match="there are no cases to judge by"):
        tune(base, old, [], PAIRS, RECIPE)
    with pytest.raises(OptionError, match="there are no cases to judge by: all 2 contradict"):
        tune(base, old, [Case("1 disk", "A"), Case("1 disk ", "B")], PAIRS, RECIPE)
    with pytest.raises(OptionError, match="output that is not one of the labels A, B"):
        tune(base, old, [*CASES, Case("999 disk", "C")], (), RECIPE)


def test_a_program_whose_record_is_strange_is_tuned_all_the_same(base, old):
    for record in (None, [], {"seen": 3}, {"seen": [1, None], "accuracy_after": "much"}):
        strange = replace(old, meta={"training": record})
        assert tune(base, strange, CASES[:3], (), RECIPE).num_seen == 0


def test_contradictions_and_repetitions_are_left_out_by_number():
    cases = [
        Case("a", "A"),
        Case("b", "B"),
        Case("a ", "B"),
        Case("b", "B"),
        Case("c", "A", line=9),
    ]
    pairs = [Case("c", "B"), Case("d", "A"), Case("d", "B"), Case("e", "A")]
    rows = choose_rows(cases, pairs)
    assert [case.input for case in rows.cases] == ["b", "c"]
    assert [pair.input for pair in rows.pairs] == ["e"]
    assert rows.contradictory == ["row 1", "row 3", "row 2 of the pairs", "row 3 of the pairs"]
    assert rows.repeated == ["row 4", "row 1 of the pairs"]


def test_parts_are_dealt_with_a_share_of_every_output():
    cases = [Case(str(n), "A" if n < 90 else "B") for n in range(100)]
    parts = deal(cases, 5, seed=1)
    assert sorted(case.input for part in parts for case in part) == sorted(map(str, range(100)))
    assert {sum(case.output == "B" for case in part) for part in parts} == {2}
    assert parts == deal(cases, 5, seed=1) != deal(cases, 5, seed=2)


@pytest.mark.parametrize(("num_wrong", "times"), [(0, 1), (5, 3), (40, 1), (30, 2), (100, 1)])
def test_what_is_wrong_is_drawn_more_often_but_not_much(num_wrong, times):
    rows = [Case(str(n), "A") for n in range(100)]
    drawn = replay(rows, set(rows[:num_wrong]))
    assert {drawn.count(row) for row in rows[:num_wrong]} <= {times}
    assert {drawn.count(row) for row in rows[num_wrong:]} <= {1}


def test_a_tuning_goes_on_with_the_rows_it_began_with(tmp_path):
    begun = Begun(1, [Case("a", "A", 3, "g", 1.0)], [Case("b", "B")])
    assert begun.keep(tmp_path) == begun
    assert Begun(2, [], []).keep(tmp_path) == begun


@pytest.mark.slow
def test_ten_tunings_by_bad_cases_promote_nothing_that_is_worse(base):
    trials = [small.try_one(base, seed) for seed in range(10)]
    assert not [trial for trial in trials if trial.tuned.promoted and trial.is_harmful]


@pytest.mark.parametrize(
    "damage",
    [
        *("", "[]", "{}", "[" * 100_000, '{"version": 1, "cases": [3]}'),
        '{"version": 1e999, "cases": [], "pairs": []}',
    ],
)
def test_a_damaged_record_of_what_it_began_from_is_one_sentence(tmp_path, damage):
    (tmp_path / "begun.json").write_text(damage)
    with pytest.raises(FormatError, match=r"begun\.json is damaged"):
        Begun(1, [], []).keep(tmp_path)
