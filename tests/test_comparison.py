"""Two programs on the same cases."""

from __future__ import annotations

import json

import pytest

from paw_mlx.cases import Case
from paw_mlx.errors import InputTooLong, OptionError
from paw_mlx.evaluation import Comparison, Judged, Report, compare
from paw_mlx.evaluation.comparison import mcnemar


def counted(both: int, only_a: int, only_b: int, neither: int) -> Comparison:
    """A comparison with so many cases of each kind."""
    kinds = [(True, True)] * both + [(True, False)] * only_a
    kinds += [(False, True)] * only_b + [(False, False)] * neither
    a, b = (Report([judged(str(i), kind[side]) for i, kind in enumerate(kinds)]) for side in (0, 1))
    return compare(a, b)


def judged(text: str, is_right: bool) -> Judged:
    return Judged.of(Case(text, "yes"), "yes" if is_right else "no")


@pytest.mark.parametrize(
    ("only_a", "only_b", "p_value"),
    [  # scipy.stats.binomtest(only_a, only_a + only_b, 0.5).pvalue, scipy 1.17.1
        (1, 7, 0.0703125),
        (0, 5, 0.0625),
        (0, 6, 0.03125),
        (6, 16, 0.052478790283203125),
        (10, 25, 0.016673847800120715),
        (3, 3, 1.0),
        (40, 20, 0.01348929373119186),
        (2, 9, 0.0654296875),
        (480, 560, 0.014259079095385853),
        (0, 0, 1.0),
    ],
)
def test_p_is_mcnemars_exact_one(only_a: int, only_b: int, p_value: float) -> None:
    assert mcnemar(only_a, only_b) == pytest.approx(p_value, rel=1e-12)
    assert mcnemar(only_b, only_a) == mcnemar(only_a, only_b)
    assert counted(3, only_a, only_b, 1).p_value == mcnemar(only_a, only_b)


def test_p_of_many_cases_is_a_number() -> None:
    assert mcnemar(20_000, 0) == 0.0
    assert mcnemar(10_000, 10_000) == 1.0


def test_the_interval_is_tangos() -> None:
    """Tables of Fagerland et al. (Statist. Med. 33, 2014) and R's contingencytables."""
    airways, response = counted(1, 7, 1, 12), counted(59, 16, 6, 80)
    assert airways.interval == pytest.approx((-0.517, -0.026), abs=5e-4)
    assert response.interval == pytest.approx((-0.1240, -0.0054), abs=5e-5)
    assert response.difference == pytest.approx(-0.0621, abs=5e-5)
    low, high = counted(50, 0, 0, 0).interval
    assert low == pytest.approx(-high)
    assert high < 0.08


def test_who_got_which_right_is_counted() -> None:
    found = counted(5, 3, 2, 1)
    counts = found.both_right, found.only_a, found.only_b, found.both_wrong
    assert counts == (5, 3, 2, 1)
    assert found.difference == pytest.approx(-1 / 11)
    assert [a.input for a, _ in found.split] == ["5", "6", "7", "8", "9"]  # what B loses first
    assert [b.correct for _, b in found.split] == [False] * 3 + [True] * 2


@pytest.mark.parametrize(
    ("counts", "verdict", "sentence"),
    [
        ((50, 1, 12, 9), "better", "B is better than A"),
        ((50, 12, 1, 9), "worse", "B is worse than A"),
        ((74, 0, 5, 1), "cannot tell", "cannot tell with 80 cases: if B leads on as it does here"),
        ((60, 9, 4, 7), "cannot tell", "cannot tell with 80 cases: if A leads on"),
        ((70, 5, 5, 0), "cannot tell", "cannot tell with 80 cases: neither leads"),
        ((80, 0, 0, 0), "cannot tell", "cannot tell with 80 cases: neither leads"),
        ((0, 0, 1, 0), "cannot tell", "cannot tell with 1 case: if B leads on"),
    ],
)
def test_the_verdict_is_on_b(
    counts: tuple[int, int, int, int], verdict: str, sentence: str
) -> None:
    found = counted(*counts)
    assert found.verdict == verdict
    assert found.sentence.startswith(sentence)


@pytest.mark.parametrize("counts", [(74, 0, 5, 1), (60, 9, 4, 7), (200, 20, 30, 50)])
def test_so_many_cases_as_it_takes_would_tell(counts: tuple[int, int, int, int]) -> None:
    found = counted(*counts)
    assert found.needed
    assert f"about {found.needed:,}" in found.sentence
    factor = found.needed / len(found.pairs)
    more = counted(*(round(factor * 1.1 * count) for count in counts))
    fewer = counted(*(round(factor * 0.8 * count) for count in counts))
    assert more.verdict != "cannot tell"
    assert fewer.verdict == "cannot tell"
    assert counted(50, 1, 12, 9).needed is None
    assert counted(50, 3, 3, 9).needed is None


def test_cases_may_come_in_another_order_and_twice() -> None:
    one, two, again = (Case("1", "yes"), Case("2", "no"), Case("1", "maybe"))
    a = Report([Judged.of(case, "yes") for case in (one, two, again)])
    b = Report([Judged.of(case, "maybe") for case in (again, one, two)])
    found = compare(a, b)
    assert [(x.input, x.right) == (y.input, y.right) for x, y in found.pairs] == [True] * 3
    assert (found.only_a, found.only_b, found.both_wrong) == (1, 1, 1)


def test_other_cases_are_an_error() -> None:
    a = Report([judged("1", True), judged("2", True)])
    with pytest.raises(OptionError, match="B has no case as A's '2' -> 'yes'"):
        compare(a, Report([judged("1", True)]))
    with pytest.raises(OptionError, match="B has 1 case that A has not, the first '3'"):
        compare(a, Report([*a.judged, judged("3", True)]))
    with pytest.raises(OptionError, match="no case as A's '1' -> 'yes'"):
        compare(a, Report([Judged.of(Case("1", "no"), "yes"), judged("2", True)]))


def test_a_case_that_could_not_be_run_is_wrong() -> None:
    failed = Judged.of(Case("1", ""), InputTooLong("too long"))
    found = compare(Report([Judged.of(Case("1", ""), "")]), Report([failed]))
    assert (found.only_a, found.only_b) == (1, 0)
    record = json.loads(json.dumps(found.record()))
    (split,) = record["split"]
    assert split["b"] == {"output": "", "error": "too long", "correct": False}
    assert (record["only_a"], record["p_value"], record["verdict"]) == (1, 1.0, "cannot tell")
