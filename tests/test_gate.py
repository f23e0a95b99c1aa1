"""Gates: how they are written, what they let pass, and what they say of what they do not."""

from __future__ import annotations

import math
import re
from itertools import product

import pytest

from paw_mlx.cases import Case
from paw_mlx.errors import InputTooLong, OptionError, PawError
from paw_mlx.evaluation import Condition, Gate, Judged, Report, wilson
from paw_mlx.output import TEXT, Labels
from paw_mlx.runner import Result


def report(*pairs: tuple[str, str | PawError]) -> Report:
    """What is right, and the answer."""
    return Report([Judged.of(Case("?", right), answer) for right, answer in pairs])


def decided(*calls: tuple[str, float], labels: Labels) -> Report:
    """What is right, and how likely the first of two labels is."""
    judged = []
    for right, share in calls:
        decision = labels.decide([math.log(share), math.log(1 - share)])
        result = Result(decision.text, "stop", 0, 1, 1, 0.0, 0.0, decision=decision)
        judged.append(Judged.of(Case("?", right), result))
    return Report(judged)


def sentences(gate: str, found: Report) -> list[str]:
    return [missed.sentence for missed in Gate.parse(gate).check(found)]


@pytest.mark.parametrize(
    ("text", "conditions"),
    [
        ("accuracy>=0.95", [("accuracy", "", ">=", 0.95)]),
        (" accuracy  >=  95 % ", [("accuracy", "", ">=", 0.95)]),
        ("accuracy>=98.6%", [("accuracy", "", ">=", 0.986)]),  # and not 98.6 / 100
        ("failed<=0,unended < .5", [("failed", "", "<=", 0.0), ("unended", "", "<", 0.5)]),
        ("accuracy.low>1", [("accuracy.low", "", ">", 1.0)]),
        ("log_loss<1.5", [("log_loss", "", "<", 1.5)]),
        ("recall[ALERT]>=98%", [("recall", "ALERT", ">=", 0.98)]),
        ("f1[ not urgent ]>0.5", [("f1", "not urgent", ">", 0.5)]),
        ('precision["a, [b]"]>0', [("precision", "a, [b]", ">", 0.0)]),
        (r'recall["say \"no\" \\"]>0', [("recall", 'say "no" \\', ">", 0.0)]),
        ("recall['a, b']>0, recall[é]>0", [("recall", "a, b", ">", 0), ("recall", "é", ">", 0)]),
        ("recall[>=]>=0", [("recall", ">=", ">=", 0.0)]),
    ],
)
def test_a_gate_is_read(text: str, conditions: list[tuple[str, str, str, float]]) -> None:
    gate = Gate.parse(text)
    assert gate == Gate(tuple(Condition(*one) for one in conditions))
    assert Gate.parse(str(gate)) == gate


@pytest.mark.parametrize(
    ("text", "character", "reason"),
    [
        ("", "at its end", "known are accuracy, accuracy.low, precision[LABEL]"),
        ("acuracy>=1", "character 1, 'acuracy>=1'", "recall[LABEL], f1[LABEL], macro_f1, coverage"),
        ("accuracy>=1, recal[A]>=1", "character 14, 'recal[A]>=1'", "expected is a metric"),
        ("accuracy>=1,", "at its end", "expected is a metric"),
        ("accuracy=1", "character 9, '=1'", ">=, >, <= and <"),
        ("accuracy>=", "at its end", "0.95 or 95%"),
        ("accuracy>=-1", "character 11", "a number"),
        ("log_loss<50%", "character 12, '%'", "a comma or the end"),
        ("accuracy>=95", "character 11, '95'", "a share, from 0 to 1 or 0% to 100%"),
        ("accuracy>=101%", "character 11", "a share"),
        ("accuracy>=.9 recall[A]>=.9", "character 14", "a comma or the end"),
        ("recall>=0.9", "character 7, '>=0.9'", "recall[LABEL] is of a label"),
        ("accuracy[A]>=0.9", "character 9", "accuracy is of all cases"),
        ("recall[]>=0.9", "character 8, ']>=0.9'", "expected is a label"),
        ("recall[a, b]>=0.9", "character 9, ', b]>=0.9'", "needs quotes"),
        ('recall["a]>=0.9', "character 8", "in quotes"),
        ("log_loss>=" + "9" * 5000, "character 20", "a comma"),
    ],
)
def test_what_is_no_gate_is_named_by_its_place(text: str, character: str, reason: str) -> None:
    with pytest.raises(OptionError) as caught:
        Gate.parse(text)
    assert character in str(caught.value)
    assert reason in str(caught.value)
    assert "accuracy>=95%" in caught.value.hints[0]


TRIAGE = report(*[("ALERT", "ALERT")] * 27, *[("ALERT", "QUIET")] * 2, ("QUIET", "QUIET"))


def test_a_gate_passes_or_says_what_is_and_what_should_be() -> None:
    assert sentences("accuracy>=90%, recall[ALERT]>=0.93, failed<=0", TRIAGE) == []
    assert sentences("accuracy>=90%, recall[ALERT]>=98%, precision[QUIET]>0.5", TRIAGE) == [
        "recall[ALERT] is 93.1 % and should be >= 98.0 %",
        "precision[QUIET] is 33.3 % and should be > 50.0 %",
    ]


@pytest.mark.parametrize(
    ("gate", "is_met"),
    [
        (f"{metric}{operator}{number}", met)
        for metric, number in (("accuracy", "0.9"), ("recall[a]", "90%"), ("failed", "0.1"))
        for operator, met in ((">=", True), ("<=", True), (">", False), ("<", False))
    ],
)
def test_a_bound_is_met_exactly(gate: str, is_met: bool) -> None:
    found = report(*[("a", "a")] * 9, ("a", InputTooLong("")))
    assert (sentences(gate, found) == []) == is_met


def test_every_share_is_on_its_own_bound() -> None:
    """Whatever is counted: no share is above or below itself, and each is told from its next."""
    for num, right in product(range(1, 60), range(60)):
        if right > num:
            continue
        found = report(*[("a", "a")] * right, *[("a", "b")] * (num - right))
        here = Condition("accuracy", "", ">=", right / num)
        assert here.is_met(found.accuracy)
        assert not Condition("accuracy", "", ">", right / num).is_met(found.accuracy)
        assert not Condition("accuracy", "", ">=", right / num + 1e-6).is_met(found.accuracy)


def test_a_sentence_never_says_that_equals_differ() -> None:
    close = report(*[("a", "a")] * 97_961, *[("a", "b")] * 2039)
    assert sentences("accuracy>=98%", close) == ["accuracy is 97.96 % and should be >= 98.0 %"]
    assert sentences("accuracy>99.95%", close) == ["accuracy is 97.96 % and should be > 99.95 %"]
    half = report(("a", "a"), ("a", "b"))
    assert sentences("accuracy<50%", half) == ["accuracy is 50.0 % and should be < 50.0 %"]


def test_the_low_end_of_the_interval_is_wilsons() -> None:
    (missed,) = Gate.parse("accuracy.low>=90%").check(TRIAGE)
    assert missed.value == wilson(28, 30)[0]
    assert missed.sentence == "accuracy.low is 78.7 % and should be >= 90.0 %"


def test_macro_f1_weighs_labels_alike() -> None:
    f1 = (2 * 27 / (27 + 29) + 2 * 1 / (3 + 1)) / 2
    assert Gate.parse("macro_f1>=0.9").check(TRIAGE)[0].value == pytest.approx(f1)


def test_what_could_not_be_run_or_was_cut_is_a_share() -> None:
    cut = Judged.of(Case("?", "a"), Result("a", "length", 0, 1, 1, 0.0, 0.0))
    found = Report([cut, *report(("a", InputTooLong("")), ("a", "a"), ("a", "a")).judged])
    assert sentences("failed<=20%, unended<=0", found) == [
        "failed is 25.0 % and should be <= 20.0 %",
        "unended is 25.0 % and should be <= 0.0 %",
    ]
    assert sentences("failed<=25%, unended<0.3", found) == []


def test_a_label_that_is_none_is_an_error_that_lists_them() -> None:
    with pytest.raises(OptionError, match=r"for recall\[Alert\].*labels are ALERT, QUIET$"):
        Gate.parse("accuracy>=0, recall[Alert]>=0").check(TRIAGE)
    said = report(("a", "strange"))
    with pytest.raises(OptionError, match=r"precision\[strange\], and the labels are a$"):
        Gate.parse("precision[strange]<=1").check(said)


def test_labels_are_checked_before_a_case_is_run() -> None:
    gate, cases = Gate.parse("recall[ALERT]>=0.9"), [Case("?", " QUIET ")]
    with pytest.raises(OptionError, match="the labels are QUIET"):
        gate.check_labels(TEXT, cases)
    with pytest.raises(OptionError, match="the labels are b, a, QUIET"):
        gate.check_labels(Labels(("b", "a")), cases)
    gate.check_labels(TEXT, [*cases, Case("?", "ALERT\n")])
    gate.check_labels(Labels(("ALERT", "other")), cases)


def test_a_share_of_nothing_does_not_pass_and_says_why() -> None:
    labels = Labels(("a", "b"))
    found = decided(("a", 0.9), ("a", 0.8), labels=labels)
    assert sentences("recall[b]>=0, precision[b]>=0, f1[b]<=1", found) == [
        "recall[b] is not known, since b is right for no case, and should be >= 0.0 %",
        "precision[b] is not known, since b was never said, and should be >= 0.0 %",
        "f1[b] is not known, since b was never said and is right for no case, "
        "and should be <= 100.0 %",
    ]
    (why,) = sentences("coverage>=0", TRIAGE)
    assert "no case was decided among labels" in why
    silent = decided(("a", 0.6), labels=Labels(("a", "b"), threshold=0.9, otherwise="a"))
    assert "every call abstained" in sentences("error<=1", silent)[0]
    strange = decided(("c", 0.6), labels=labels)
    assert "no right output is one of the labels" in sentences("log_loss<9", strange)[0]


def test_what_is_known_of_decisions_is_bounded() -> None:
    careful = Labels(("a", "b"), threshold=0.7, otherwise="?")
    found = decided(("a", 0.9), ("b", 0.8), ("a", 0.6), ("b", 0.2), labels=careful)
    assert sentences("coverage>=75%, error<=34%", found) == []
    assert sentences("coverage>75%, error<33%, log_loss<0.1", found) == [
        "coverage is 75.0 % and should be > 75.0 %",
        "error is 33.3 % and should be < 33.0 %",
        f"log_loss is {-math.log(0.9 * 0.2 * 0.6 * 0.8) / 4:.3f} and should be < 0.100",
    ]
    expected = found.decisions.calibration_error if found.decisions else None
    assert Gate.parse("calibration_error<0").check(found)[0].value == expected


def test_a_record_has_every_condition() -> None:
    records = Gate.parse("accuracy>=90%, recall[ALERT]>=98%").record(TRIAGE)
    assert records == [
        {"condition": "accuracy >= 90.0 %", "value": 28 / 30, "met": True},
        {
            "condition": "recall[ALERT] >= 98.0 %",
            "value": 27 / 29,
            "met": False,
            "reason": "recall[ALERT] is 93.1 % and should be >= 98.0 %",
        },
    ]
    (told,) = Gate.parse("log_loss<1").record(TRIAGE)
    assert (told["value"], told["met"]) == (None, False)
    assert re.search("not known, since", told["reason"])
