"""The judge: what is right, how sure that is, and what is taken for what."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, cast

import pytest

from paw_mlx.cases import Case
from paw_mlx.errors import InputTooLong, OptionError, PawError
from paw_mlx.evaluation import Judged, LabelScore, Report, judge, wilson
from paw_mlx.functions import Function
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
