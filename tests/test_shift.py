"""Samples that differ and samples that do not: the tests against scipy's numbers, and the verdict.

The numbers that are called scipy's are of scipy 1.17.1.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from paw_mlx.errors import FormatError, InputTooLong
from paw_mlx.evaluation import observed
from paw_mlx.evaluation.observed import Kept, Observed
from paw_mlx.evaluation.shift import Shift
from paw_mlx.evaluation.two_samples import (
    chi_square_p,
    counts_p,
    holm,
    smallest_distance,
    smirnov_distance,
    smirnov_p,
    total_variation,
)
from paw_mlx.output import Decision
from paw_mlx.runner import Result

LABELS = ("ALERT", "QUIET")


def result(text: str, *, whole: bool = True, decision: Decision | None = None) -> Result:
    reason = "stop" if whole else "length"
    return Result(text, reason, 0, 1, 1, 0.1, 0.1, decision=decision)


def labelled(
    label: str, probability: float = 0.9, in_scope: float = 0.99, abstained: bool = False
) -> Result:
    text = "" if abstained else label
    return result(text, decision=Decision(label, label, text, probability, {}, in_scope, abstained))


def observe(rows: Sequence[tuple[str, Result]], labels: tuple[str, ...] = LABELS) -> Observed:
    found = Observed(labels)
    for text, answer in rows:
        found.add(text, answer)
    return found


def lines(num: int, seed: int, mean: float = 40, alerts: float = 0.3) -> list[tuple[str, Result]]:
    chance = random.Random(seed)
    return [
        (
            "x" * max(1, round(chance.gauss(mean, mean / 4))),
            labelled("ALERT" if chance.random() < alerts else "QUIET", chance.uniform(0.6, 1)),
        )
        for _ in range(num)
    ]


# --- the statistics ------------------------------------------------------------------------


def test_smirnov_is_scipys() -> None:
    a, b = [1, 2, 2, 3, 5, 8, 13], [4, 4, 6, 7, 9, 10, 11, 20]
    assert smirnov_distance(a, b) == pytest.approx(0.5714285714285714)  # stats.ks_2samp
    assert smirnov_distance(b, a) == smirnov_distance(a, b)
    # special.kolmogorov(0.5 * sqrt(56 / 15)), and its values at 1, 1.3581 and 1.6276: the 27 %,
    # 5 % and 1 % of every table
    assert smirnov_p(0.5, 7, 8) == pytest.approx(0.3081329677736096, abs=1e-12)
    assert smirnov_p(1.0, 2, 2) == pytest.approx(0.26999967167735456, abs=1e-12)
    assert smirnov_p(0.13581, 200, 200) == pytest.approx(0.05, abs=1e-5)
    assert smirnov_p(0.16276, 200, 200) == pytest.approx(0.01, abs=1e-5)
    assert smirnov_p(0.0, 5, 5) == 1.0


def test_chi_square_is_scipys() -> None:
    assert chi_square_p(7.3, 3) == pytest.approx(0.06292623645904312, abs=1e-12)  # chi2.sf
    assert chi_square_p(11.2, 6) == pytest.approx(0.08238840360323971, abs=1e-12)
    assert chi_square_p(3.841459, 1) == pytest.approx(0.05, abs=1e-6)
    assert chi_square_p(2105.7, 2001) == pytest.approx(0.05076132708246253, abs=1e-12)
    assert chi_square_p(0.0, 4) == 1.0


def test_counts_are_compared_as_scipy_does() -> None:
    many = counts_p([30, 50, 20], [60, 20, 15])
    assert many == pytest.approx(8.054148092388453e-06, rel=1e-9)  # chi2_contingency
    few = counts_p([1, 7], [5, 2])
    assert few == pytest.approx(0.040559440559440565, rel=1e-9)  # fisher_exact
    assert counts_p([0, 4], [60, 36]) == pytest.approx(0.02330649223138177, rel=1e-9)
    assert counts_p([5, 0], [7, 0]) is None
    assert counts_p([1], [2]) is None


def test_rare_categories_are_pooled() -> None:
    """A single one of a label in a million is no drift, and forty labels hide no other."""
    assert counts_p([60, 0, 0], [290, 5, 5]) == pytest.approx(counts_p([60, 0], [290, 10]) or 0)
    assert (counts_p([100] + [0] * 40, [10_000] + [1] * 40) or 0) > 0.3
    assert (counts_p([2] * 40, [3] * 20 + [2] * 20) or 0) > 0.5


def test_the_tests_keep_their_level() -> None:
    chance, num = random.Random(2), 600
    shares = [0.7, 0.2, 0.06, 0.03, 0.01]
    wrong = {"counts": 0, "smirnov": 0}
    for _ in range(num):
        drawn = [[0] * 5, [0] * 5]
        for counts, size in zip(drawn, (60, 200), strict=True):
            for place in chance.choices(range(5), shares, k=size):
                counts[place] += 1
        wrong["counts"] += (counts_p(*drawn) or 1) < 0.05
        a, b = ([chance.random() for _ in range(n)] for n in (40, 80))
        wrong["smirnov"] += smirnov_p(smirnov_distance(a, b), 40, 80) < 0.05
    assert all(0.015 < count / num < 0.075 for count in wrong.values()), wrong


def test_holm_and_total_variation() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert total_variation([1, 1], [1, 3]) == pytest.approx(0.25)
    assert total_variation([4, 0], [0, 9]) == 1.0


def test_the_smallest_distance_is_the_tests_own() -> None:
    distance = smallest_distance(60, 200, 0.01)
    assert smirnov_p(distance, 60, 200) == pytest.approx(0.01, rel=1e-3)


# --- what is kept --------------------------------------------------------------------------


def test_memory_is_bounded_and_the_draw_even(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observed, "_MAX_KEPT", 500)
    kept = Kept()
    for value in range(20_000):
        kept.add(value)
    assert (kept.num, len(kept.values)) == (20_000, 500)
    assert 9_000 < sum(kept.values) / 500 < 11_000
    outputs = Observed()
    for number in range(5_000):
        outputs.add("x", result(f"text {number}"))
    assert len(outputs.outputs) == 1001
    assert outputs.outputs[observed.OTHER] == 4_000
    assert outputs.categories() == []


def test_a_malformed_row_has_no_length() -> None:
    found = Observed()
    found.add("", FormatError("no JSON"))
    found.add("x" * 9, InputTooLong("too long"))
    assert (found.num, found.num_failed, list(found.input_chars.values)) == (2, 2, [9])


# --- the verdict ---------------------------------------------------------------------------


def shift(before: Observed, after: Observed) -> tuple[str, list[str]]:
    found = Shift.between(before, after)
    return found.verdict, found.sentences


def test_inputs_like_the_cases_show_no_drift() -> None:
    verdict, (sentence,) = shift(observe(lines(200, 1)), observe(lines(1000, 2)))
    assert verdict == "none"
    assert sentence.startswith("no sign of drift: a distance of 0.1")


def test_alarms_are_rare() -> None:
    verdicts = [
        shift(observe(lines(60, 2 * seed)), observe(lines(120, 2 * seed + 1)))[0]
        for seed in range(300)
    ]
    assert verdicts.count("drift") <= 6


def test_longer_inputs() -> None:
    verdict, (sentence,) = shift(observe(lines(80, 1)), observe(lines(80, 2, mean=300)))
    assert verdict == "drift"
    assert sentence.startswith("inputs are longer: median ")
    assert sentence.endswith(" characters (p < 0.001)")


def test_other_lengths_of_the_same_median() -> None:
    before = observe([("x" * 50, labelled("ALERT"))] * 60)
    after = observe([("x" * length, labelled("ALERT")) for length in (5, 50, 500)] * 30)
    verdict, (sentence,) = shift(before, after)
    assert verdict == "drift"
    assert "of other lengths: half of them 50 to 50 characters → 5 to 500" in sentence


def test_other_labels() -> None:
    before, after = observe(lines(100, 1, alerts=0.07)), observe(lines(100, 2, alerts=0.4))
    found = Shift.between(before, after)
    assert found.verdict == "drift"
    assert "QUIET" in found.sentences[0]
    assert found.shares["ALERT"][1] > found.shares["ALERT"][0]
    (outputs,) = found.shifted
    assert outputs.distance == pytest.approx(
        abs(found.shares["ALERT"][1] - found.shares["ALERT"][0])
    )


def test_less_sure_and_out_of_scope() -> None:
    before = observe([("x", labelled("ALERT", 0.95 + n / 2000, 0.99)) for n in range(60)])
    after = observe([("x", labelled("ALERT", 0.6 + n / 2000, 0.4)) for n in range(60)])
    verdict, sentences = shift(before, after)
    assert verdict == "drift"
    assert sentences[0].startswith("inputs are less in scope: 99.0% → 40.0%")
    assert sentences[1].startswith("it is less sure: mean probability of its label 96.5% → 61.5%")


def test_abstentions_and_failures() -> None:
    before = observe([("x", labelled("ALERT"))] * 60)
    after = observe([("x", labelled("ALERT", abstained=True))] * 60)
    for _ in range(20):
        after.add("x", InputTooLong("too long"))
    sentences = shift(before, after)[1]
    assert any("(abstained) 0% → 100%" in sentence for sentence in sentences)
    assert any("more inputs fail: 0.0% → 25.0%" in sentence for sentence in sentences)


def test_the_share_of_failures_is_tested_beside_those_that_do_not_fail() -> None:
    before, after = observe(lines(90, 1)), observe(lines(95, 1))
    for observed_rows, num in ((before, 10), (after, 25)):
        for _ in range(num):
            observed_rows.add("x", InputTooLong("too long"))
    (failed,) = (c for c in Shift.between(before, after).changes if c.name == "failed")
    assert (failed.before, failed.after) == (0.1, 25 / 120)
    alone = counts_p((10, 90), (25, 95))
    assert alone is not None
    assert failed.p == pytest.approx(5 * alone, rel=1e-9)  # Holm's, of five tests


def test_what_is_sure_and_small_is_no_drift() -> None:
    """With enough rows everything differs; by a hundredth, it is of no account."""
    before = observe([("x", labelled("ALERT", 0.99 + n % 7 / 1e6)) for n in range(5000)])
    after = observe([("x", labelled("ALERT", 0.98 + n % 7 / 1e6)) for n in range(5000)])
    (probability,) = (c for c in Shift.between(before, after).changes if c.name == "probability")
    assert probability.p == pytest.approx(0, abs=1e-9)
    assert not probability.shifted


@pytest.mark.parametrize(("num_cases", "num_inputs", "few"), [
    (60, 12, "12 inputs"), (60, 1, "1 input"), (60, 0, "0 inputs"), (5, 500, "5 cases"),
])  # fmt: skip
def test_few_rows_tell_nothing(num_cases: int, num_inputs: int, few: str) -> None:
    before, after = observe(lines(num_cases, 1)), observe(lines(num_inputs, 2))
    assert shift(before, after) == ("cannot tell", [f"cannot tell with {few}"])


def test_few_rows_that_are_quite_other_tell_enough() -> None:
    before, after = observe(lines(60, 1)), observe(lines(12, 2, mean=900))
    assert shift(before, after)[0] == "drift"


def test_text_is_compared_by_its_outputs_lengths_and_ends() -> None:
    chance = random.Random(4)
    before = observe([("x", result("y" * chance.randrange(5, 30))) for _ in range(80)], ())
    after = observe([("x", result("y" * 200, whole=chance.random() > 0.4)) for _ in range(80)], ())
    verdict, sentences = shift(before, after)
    assert verdict == "drift"
    assert any(sentence.startswith("outputs are longer") for sentence in sentences)
    assert any("outputs are cut before their end: 0.0% → " in sentence for sentence in sentences)


def test_texts_few_outputs_are_compared_as_labels() -> None:
    said = ["disk", "net", "disk", "disk"]
    before = observe([("x", result(text)) for text in said * 20], ())
    after = observe([("x", result(f"unheard of {n}")) for n in range(60)], ())
    found = Shift.between(before, after)
    assert found.shares == {"disk": (0.75, 0.0), "net": (0.25, 0.0), "(other)": (0.0, 1.0)}
    assert any("(other) 0% → 100%" in sentence for sentence in found.sentences)


def test_known_outputs_are_counted_however_many_others_came_first() -> None:
    before = observe([("x", result(text)) for text in ["disk", "net"] * 20], ())
    after = Observed.like(before)
    for text in [f"unheard of {n}" for n in range(1500)] + ["disk"] * 500:
        after.add("x", result(text))
    assert Shift.between(before, after).shares["disk"] == (0.5, 0.25)


def test_labels_are_counted_however_many() -> None:
    labels = tuple(f"label {n}" for n in range(1200))
    before = observe([("x", labelled(label)) for label in labels], labels)
    assert before.outputs["label 1199"] == 1


def test_nothing_that_runs_is_told_without_a_crash() -> None:
    before, after = observe(lines(60, 1)), Observed(LABELS)
    for _ in range(60):
        after.add("x", InputTooLong("too long"))
    found = Shift.between(before, after)
    assert "more inputs fail: 0.0% → 100.0% (p < 0.001)" in found.sentences
    assert found.record()["shares"] == {}
    assert Shift.between(after, after).verdict == "none"
