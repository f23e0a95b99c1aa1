"""The judge: what is right, how sure that is, and what is taken for what."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, cast

import pytest

from paw_mlx.cases import Case
from paw_mlx.errors import InputTooLong, OptionError, PawError
from paw_mlx.evaluation import Bin, Judged, LabelScore, Report, judge, ndcg, wilson
from paw_mlx.functions import Function
from paw_mlx.output import Labels
from paw_mlx.runner import Options, Result, Runner


class Knowing:
    """A runner that knows its answers by heart."""

    max_in_flight = 3

    def __init__(self, answers: dict[str, str | PawError]) -> None:
        self.answers, self.options = answers, list[Options]()

    def submit(self, program: object, text: str, options: Options) -> Future[Result]:
        self.options.append(options)
        future: Future[Result] = Future()
        answer = self.answers[text]
        if isinstance(answer, PawError):
            future.set_exception(answer)
        else:
            future.set_result(Result(answer, "stop", 0, 1, 1, 0.0, 0.0))
        return future


def knowing(answers: dict[str, str | PawError]) -> tuple[Function, Knowing]:
    runner = Knowing(answers)
    return Function(cast(Runner, runner), cast(Any, None)), runner


def test_an_input_that_is_no_text_is_a_wrong_case() -> None:
    fn, _ = knowing({"1": "one"})
    found = judge(fn, [Case("1", "one"), Case(None, "none")])  # type: ignore[arg-type]
    assert found.num_correct == 1
    assert found.judged[1].error == "an input is text, and this is of type NoneType"


def test_an_output_that_was_cut_is_counted() -> None:
    result = Result("on", "length", 0, 1, 1, 0.0, 0.0)
    found = Report([Judged.of(Case("1", "one"), answer) for answer in (result, "one")])
    assert (found.num_unended, found.num_correct) == (1, 1)
    assert [one.is_whole for one in found.failures] == [False]


def report(*pairs: tuple[str, str | PawError]) -> Report:
    """What is right, and the answer."""
    return Report([Judged.of(Case("?", right), answer) for right, answer in pairs])


@pytest.mark.parametrize(
    ("correct", "num", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (9, 10, 0.5958, 0.9821),
        (10, 10, 0.7225, 1.0),
        (1, 1, 0.2065, 1.0),
        (50, 100, 0.4038, 0.5962),
        (81, 263, 0.2553, 0.3662),  # Newcombe, 1998, table I
    ],
)
def test_the_interval_is_wilsons(correct: int, num: int, low: float, high: float) -> None:
    assert wilson(correct, num) == pytest.approx((low, high), abs=5e-5)


def test_an_accuracy_comes_with_its_interval() -> None:
    found = report(*[("a", "a")] * 9, ("a", "b"))
    assert (found.num_correct, found.accuracy) == (9, 0.9)
    assert found.interval == wilson(9, 10)


def test_a_case_is_right_if_its_output_is_both_stripped() -> None:
    found = report((" yes\n", "yes"), ("yes", " yes "), ("yes", "Yes"), ("yes", "yes."))
    assert [one.correct for one in found.judged] == [True, True, False, False]
    assert found.judged[0].expected == " yes\n"  # as the case has it
    assert [one.output for one in found.failures] == ["Yes", "yes."]
    assert found.labels == ["yes"]


def test_an_error_is_wrong_even_where_nothing_is_right() -> None:
    found = report(("", InputTooLong("too long")), ("", ""), ("a", "a"))
    assert (found.num_correct, found.num_failed) == (2, 1)
    assert found.accuracy == pytest.approx(2 / 3)
    (failure,) = found.failures
    assert (failure.output, failure.error) == ("", "too long")
    assert found.confusion()["", None] == 1


def test_what_is_no_label_shares_a_column() -> None:
    found = report(
        ("a", "a"), ("a ", "b"), ("b", "b"), ("b", "bees"), ("b", "cows"), ("a", InputTooLong(""))
    )
    assert found.labels == ["a", "b"]
    assert found.confusion() == {
        ("a", "a"): 1,
        ("a", "b"): 1,
        ("a", None): 1,
        ("b", "b"): 1,
        ("b", None): 2,
    }


def test_a_label_is_scored_against_all_others() -> None:
    found = report(
        ("a", "a"), ("a", "a"), ("a", "b"), ("a", InputTooLong("")), ("b", "a"), ("c", "c")
    )
    assert found.label("a") == LabelScore(precision=2 / 3, recall=2 / 4, f1=4 / 7)
    assert found.label("b") == LabelScore(precision=0.0, recall=0.0, f1=0.0)
    assert found.label("c") == LabelScore(precision=1.0, recall=1.0, f1=1.0)
    assert found.label("d") == LabelScore(precision=None, recall=None, f1=None)
    never = report(("a", InputTooLong("")))
    assert never.label("a") == LabelScore(precision=None, recall=0.0, f1=0.0)


def test_macro_f1_is_the_mean_of_the_labels() -> None:
    """The example of the documentation of sklearn.metrics.f1_score, 1.5."""
    said = zip("012012", "021001", strict=True)
    assert report(*said).macro_f1 == pytest.approx(0.267, abs=5e-4)
    assert report(("a", InputTooLong("")), ("b", "b")).macro_f1 == 0.5


def test_only_labels_have_scores() -> None:
    found = report(("a", "a"), ("b", "c"))
    assert found.scores == {"a": found.label("a"), "b": found.label("b")}
    texts = report(*[(str(number), "1") for number in range(13)])
    assert texts.scores == {}
    many = Labels(tuple(map(str, range(13))))
    decision = many.decide([math.log(1 / 13)] * 13)
    result = Result(decision.text, "stop", 0, 1, 1, 0.0, 0.0, decision=decision)
    chosen = Report([Judged.of(Case("?", label), result) for label in many.labels])
    assert chosen.scores.keys() == {*many.labels}


def test_a_report_is_one_record() -> None:
    found = report(*[("a", "a")] * 3, ("b", "a"), ("b", InputTooLong("too long")))
    record = json.loads(json.dumps(found.record()))
    assert (record["cases"], record["num_correct"], record["num_failed"]) == (5, 3, 1)
    assert (record["accuracy"], record["interval"]) == (0.6, [*wilson(3, 5)])
    assert record["labels"]["a"] == {"precision": 0.75, "recall": 1.0, "f1": 6 / 7, "cases": 3}
    assert record["labels"]["b"] == {"precision": None, "recall": 0.0, "f1": 0.0, "cases": 2}
    assert record["macro_f1"] == found.macro_f1
    assert [one["error"] for one in record["failures"]] == [None, "too long"]
    assert "decisions" not in record
    texts = report(*[(str(number), "1") for number in range(13)]).record()
    assert not {"labels", "macro_f1"} & texts.keys()
    assert decided(("a", 0.9)).record()["decisions"]["coverage"] == 1.0


def test_cases_are_judged_in_their_order_and_heard_of_one_by_one() -> None:
    fn, runner = knowing({"1": "one", "2": "two ", "3": InputTooLong("too long")})
    cases = [Case("1", "one"), Case("2", "two"), Case("3", "three"), Case("1", "uno")]
    heard: list[Judged] = []

    def once() -> Iterator[Case]:
        yield from cases

    found = judge(fn, once(), Options(max_tokens=7), on_case=heard.append)
    assert heard == found.judged
    assert [one.input for one in heard] == ["1", "2", "3", "1"]
    assert [one.correct for one in heard] == [True, True, False, False]
    assert heard[2].error == "too long"
    assert {options.max_tokens for options in runner.options} == {7}
    assert found.seconds > 0


def test_no_cases_are_no_report() -> None:
    with pytest.raises(OptionError, match="no cases"):
        judge(knowing({})[0], [])


# --- labels --------------------------------------------------------------------------------

AB = Labels(("a", "b"))


def decided(*calls: tuple[str, float], labels: Labels = AB, **cases: Any) -> Report:
    """A report of calls: what is right, and how likely `a` is; the mass of both is 0.5."""
    judged = []
    for number, (right, share) in enumerate(calls):
        decision = labels.decide([math.log(0.5 * share), math.log(0.5 * (1 - share))])
        result = Result(decision.text, "stop", 0, 1, 1, 0.0, 0.0, decision=decision)
        more = {name: values[number] for name, values in cases.items()}
        judged.append(Judged.of(Case("?", right, **more), result))
    return Report(judged)


def test_text_has_no_probabilities() -> None:
    assert report(("a", "a"), ("a", InputTooLong("too long"))).decisions is None
    assert report(("a", "a")).ndcg is None


def test_how_true_probabilities_are() -> None:
    found = decided(("a", 0.9), ("b", 0.9), ("a ", 0.91), ("b", 0.25)).decisions
    assert found is not None
    losses = [0.9, 0.1, 0.91, 0.75]
    assert found.log_loss == pytest.approx(-sum(map(math.log, losses)) / 4)
    assert found.in_scope == pytest.approx(0.5)
    low, high = found.bins()
    assert low == pytest.approx(Bin(11 / 15, 12 / 15, 1, 0.75, 1.0))
    assert high == pytest.approx(Bin(13 / 15, 14 / 15, 3, 2.71 / 3, 2 / 3))
    assert found.calibration_error == pytest.approx((0.25 + 0.71) / 4)


def test_what_is_none_of_the_labels_is_wrong_and_has_no_log_loss() -> None:
    found = decided(("a", 0.9), ("c", 0.9)).decisions
    assert found is not None
    assert found.log_loss == pytest.approx(-math.log(0.9))
    assert found.error == 0.5
    nothing = decided(("c", 0.9)).decisions
    assert nothing is not None
    assert nothing.log_loss is None


def test_a_label_without_any_chance_costs_a_finite_loss() -> None:
    found = decided(("b", 1 - 2**-53)).decisions
    sure = Report([Judged.of(Case("?", "b"), Result("a", "stop", 0, 1, 1, 0, 0, decision=d))
                   for d in [AB.decide([0.0, -800.0])]]).decisions  # fmt: skip
    assert found is not None
    assert sure is not None
    assert found.log_loss == pytest.approx(53 * math.log(2))
    assert sure.log_loss == pytest.approx(744.4, abs=0.1)


def test_the_surest_calls_come_first_and_equals_together() -> None:
    calls = ("a", 0.99), ("b", 0.9), ("a", 0.9), ("b", 0.4), ("a", 0.3)
    found = decided(*calls).decisions
    assert found is not None
    points = (0.99, 0.2, 0.0), (0.9, 0.6, 1 / 3), (0.7, 0.8, 2 / 4), (0.6, 1.0, 2 / 5)
    assert [pytest.approx(point) for point in points] == found.curve()
    assert found.area == pytest.approx((0 + 2 / 3 + 2 / 4 + 2 / 5) / 5)
    first = {"threshold": 0.99, "coverage": 0.2, "error": 0.0}
    assert found.record()["risk_coverage"][0] == pytest.approx(first)


def test_an_abstention_is_neither_right_nor_wrong_but_in_the_accuracy() -> None:
    careful = Labels(("a", "b"), threshold=0.8, otherwise="b")
    found = decided(("a", 0.9), ("a", 0.1), ("b", 0.6), ("a", 0.4), labels=careful)
    assert [one.output for one in found.judged] == ["a", "b", "b", "b"]
    assert found.accuracy == 0.5  # the third by what is said instead
    decisions = found.decisions
    assert decisions is not None
    assert (decisions.num_decided, decisions.coverage, decisions.error) == (2, 0.5, 0.5)
    assert [point.coverage for point in decisions.curve()] == [0.5, 1.0]  # of all calls
    silent = decided(("a", 0.6), labels=careful).decisions
    assert silent is not None
    assert (silent.coverage, silent.error) == (0.0, None)


def test_a_judged_case_has_its_decision_in_json() -> None:
    record = json.loads(json.dumps(decided(("b", 0.75)).judged[0].record()))
    assert record["decision"]["probabilities"] == pytest.approx({"a": 0.75, "b": 0.25})
    plain = {"input": "?", "expected": "a", "output": "", "error": "no", "finish_reason": None}
    assert Judged.of(Case("?", "a"), InputTooLong("no")).record() == plain


@pytest.mark.parametrize(
    ("grades", "scores", "value"),
    [  # the documentation of sklearn.metrics.ndcg_score, 1.5
        ([10, 0, 0, 1, 5], [0.1, 0.2, 0.3, 4, 70], 0.69),
        ([10, 0, 0, 1, 5], [0.05, 1.1, 1.0, 0.5, 0.0], 0.49),
        ([3, 2, 1, 0], [0.9, 0.5, 0.4, 0.1], 1.0),
        ([0, 1], [0.5, 0.5], 1 / math.log2(3)),  # equal scores: in their order
    ],
)
def test_ndcg_is_the_fields(grades: list[float], scores: list[float], value: float) -> None:
    assert ndcg([list(zip(scores, grades, strict=True))]) == pytest.approx(value, abs=0.006)


def test_groups_count_alike_and_those_without_a_best_order_not_at_all() -> None:
    good, bad = [(0.9, 1.0), (0.1, 0.0)], [(0.1, 1.0), (0.9, 0.0)]
    assert ndcg([good, bad, [(0.5, 0.0)] * 9]) == pytest.approx((1 + 1 / math.log2(3)) / 2)
    assert ndcg([[(0.5, 0.0)]]) is None


def test_cases_are_ranked_by_their_grades_or_by_the_order_of_the_labels() -> None:
    calls = ("b", 0.2), ("a", 0.1), ("a", 0.9), ("b", 0.8)
    swapped = (1 + 1 / math.log2(3)) / 2  # the first group is the wrong way round
    assert decided(*calls).ndcg is None
    assert decided(*calls, group=["x", "x", "y", "y"]).ndcg == pytest.approx(swapped)
    graded = decided(*calls, group=["x", "x", "y", "y"], grade=[0.0, 2.0, 1.0, 0.0])
    assert graded.ndcg == pytest.approx(swapped)
    assert decided(*calls, grade=[2.0, 1.0, 4.0, 3.0]).ndcg == pytest.approx(1.0)
    some = decided(*calls, grade=[None, 5.0, 1.0, None])
    assert some.ndcg == pytest.approx((1 + 5 / math.log2(3)) / (5 + 1 / math.log2(3)))
    failed = Judged.of(Case("?", "a", group="y", grade=9.0), InputTooLong("too long"))
    last = Report([*decided(("a", 0.1), grade=[1.0], group=["y"]).judged, failed])
    assert last.ndcg == pytest.approx((1 + 9 / math.log2(3)) / (9 + 1 / math.log2(3)))
