"""The type of an output: what it refuses, what files keep of it, how it decides."""

from __future__ import annotations

import copy
import json
import math
import pickle
from dataclasses import replace
from typing import Any

import pytest
import tiny

from paw_mlx.errors import FormatError, OptionError, OutputError
from paw_mlx.output import MAX_LABELS, TEXT, Labels, Regex, Schema, override, read_record
from paw_mlx.runner import Options, Result

AB = ("ALERT", "QUIET")
DEEP: Any = []
for _ in range(30):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ((), "labels are 2 to 65,536, and there are 0"),
        (("one",), "there are 1"),
        (tuple(map(str, range(100_000))), "there are 100,000"),
        ("ALERT", "a sequence of texts, and not 'ALERT'"),
        (("a", ""), "label 2 of 2 is empty"),
        (("a", " \n"), "label 2 of 2 is empty"),
        (("a", " b"), "label ' b' begins or ends with a blank"),
        (("a", "b\u2003"), "begins or ends with a blank"),
        (("a", "b", "a"), "the label 'a' is there twice"),
        (("caf\u00e9", "cafe\u0301"), "is there twice"),
        (("a", 1), "label 2 is 1, and no text"),
        (("a", None), "label 2 is None, and no text"),
        (("a", "b" * 1_000_000), "label 2 has 1,000,000 characters (limit 1,000)"),
        (("a", "\ud800"), "half of a character"),
    ],
)
def test_labels_that_cannot_be_told_apart_or_said_are_refused(labels, said):
    with pytest.raises(OptionError) as caught:
        Labels(labels)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 200


def test_labels_may_be_many_alike_but_for_case_and_beginnings_of_others():
    assert len(Labels(tuple(map(str, range(MAX_LABELS)))).labels) == MAX_LABELS
    assert Labels(["No", "no", "not yet"]).labels == ("No", "no", "not yet")
    assert hash(Labels(["a", "b"])) == hash(Labels(("a", "b")))


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan, "0.5", True, [0.5], 10**400])
def test_a_threshold_is_a_probability(threshold):
    with pytest.raises(OptionError, match="a threshold is a probability from 0 to 1, not "):
        Labels(AB, threshold=threshold)
    with pytest.raises(OptionError, match="a threshold is a probability"):
        Options(threshold=threshold)


@pytest.mark.parametrize("temperature", [0, -1, math.nan, math.inf, "1", None, True, 10**400])
def test_a_temperature_of_labels_is_above_zero(temperature):
    with pytest.raises(OptionError, match="the labels' temperature is a number") as caught:
        Labels(AB, temperature=temperature)
    assert len(str(caught.value)) < 200


def test_what_is_said_otherwise_is_text():
    for made in (lambda: Labels(AB, otherwise=5), lambda: Options(otherwise=b"x")):
        with pytest.raises(OptionError, match="what is said otherwise is text, not "):
            made()


@pytest.mark.parametrize(
    "output",
    [
        TEXT,
        Labels(AB),
        Labels(AB, temperature=1.7, threshold=1.0, otherwise=""),
        Labels(AB, priors=(-0.1, -2.5)),
        Labels(AB, threshold=0, otherwise="UNSURE"),
        Schema.of({"type": "object", "properties": {"größe": {"type": "number"}}}),
        Regex(r"\d{4}"),
    ],
)
def test_a_type_comes_out_of_its_record_as_it_went_in(output):
    assert read_record(json.loads(json.dumps(output.record()))) == output
    assert pickle.loads(pickle.dumps(output)) == output == copy.deepcopy(output)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("labels", "the output's type is 'labels', and no object"),
        ([["labels"]], "and no object"),
        ({}, "the output's type None is not known"),
        ({"type": "grammar"}, "the output's type 'grammar' is not known"),
        ({"type": ["labels"]}, "is not known"),
        ({"type": "x" * 100_000}, "is not known"),
        ({"type": DEEP}, "is not known"),
        ({"type": "labels"}, "is labels, and its labels None"),
        ({"type": "labels", "labels": "ALERT"}, "is labels, and its labels 'ALERT'"),
        ({"type": "labels", "labels": {"a": 1}}, "is labels, and its labels {'a': 1}"),
        ({"type": "labels", "labels": ["a", DEEP]}, "label 2 is [[["),
        ({"type": "labels", "labels": ["a", "b" * 1_000_000]}, "1,000,000 characters"),
        ({"type": "labels", "labels": [str(n) for n in range(100_000)]}, "are 100,000"),
        ({"type": "labels", "labels": ["a", "a"]}, "is there twice"),
        ({"type": "labels", "labels": ["a", "b"], "threshold": "0.5"}, "a threshold is"),
        ({"type": "labels", "labels": ["a", "b"], "threshold": {"a": DEEP}}, "a threshold is"),
        ({"type": "labels", "labels": ["a", "b"], "temperature": None}, "temperature is a number"),
        ({"type": "labels", "labels": ["a", "b"], "temperature": 10**400}, "temperature is"),
        ({"type": "labels", "labels": ["a", "b"], "otherwise": 1}, "said otherwise is text"),
        ({"type": "schema", "schema": [1]}, "is schema, and its schema [1]"),
        ({"type": "schema"}, "is schema, and its schema None"),
        ({"type": "regex", "regex": None}, "is regex, and its regex None"),
    ],
)
def test_a_record_that_is_none_is_one_sentence(record, said):
    with pytest.raises(FormatError) as caught:
        read_record(record)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 250


def test_the_likeliest_label_is_decided_for_and_a_doubtful_one_is_not_said():
    log_p = [math.log(0.3), math.log(0.1)]
    sure = Labels(AB).decide(log_p)
    assert (sure.value, sure.label, sure.text, sure.abstained) == ("ALERT", "ALERT", "ALERT", False)
    assert dict(sure.probabilities) == pytest.approx({"ALERT": 0.75, "QUIET": 0.25})
    assert sure.in_scope == pytest.approx(0.4)
    unsure = Labels(AB, threshold=0.8).decide(log_p)
    assert (unsure.value, unsure.label, unsure.text, unsure.abstained) == (None, "ALERT", "", True)
    for decided in (
        Labels(AB, threshold=0.8, otherwise="?").decide(log_p),
        Labels(AB, threshold=0.1, otherwise="!").decide(log_p, threshold=0.8, otherwise="?"),
    ):
        assert (decided.value, decided.text, decided.label) == ("?", "?", "ALERT")
    assert Labels(AB, threshold=0.8).decide(log_p, threshold=0).value == "ALERT"
    assert Labels(AB).decide(log_p, choice=1).probability == pytest.approx(0.25)


def test_a_label_has_its_python_value_also_where_it_is_said_otherwise():
    labels = Labels(
        ("low", "high"), threshold=0.9, otherwise="low", build={"low": 1, "high": 2}.get
    )
    decided = labels.decide([math.log(0.2), math.log(0.3)])
    assert (decided.value, decided.text, decided.label) == (1, "low", "high")


def test_a_temperature_flattens_and_far_apart_labels_keep_their_shares():
    even = Labels(AB, temperature=2.0).decide([math.log(0.8), math.log(0.2)])
    assert even.probability == pytest.approx(2 / 3)  # sqrt(0.8) : sqrt(0.2)
    far = Labels(AB).decide([-2000.0, -1000.0])
    assert (far.value, far.probability, far.in_scope) == ("QUIET", 1.0, 0.0)
    assert Labels(AB).decide([-math.inf, -1.0]).probabilities["ALERT"] == 0


@pytest.mark.parametrize("log_p", [[math.nan, -1.0], [-1.0, math.nan], [-math.inf, -math.inf]])
def test_numbers_that_overflowed_decide_nothing(log_p):
    with pytest.raises(OutputError, match="overflowed"):
        Labels(AB).decide(log_p)


def test_what_a_program_says_of_anything_is_no_evidence():
    log_p = [math.log(0.6), math.log(0.4)]
    assert Labels(AB).decide(log_p).label == AB[0]
    told = Labels(AB, priors=(math.log(0.8), math.log(0.2))).decide(log_p)
    assert told.label == AB[1]
    assert told.probability == pytest.approx((0.4 / 0.2) / (0.6 / 0.8 + 0.4 / 0.2))
    assert told.in_scope == pytest.approx(1.0)


@pytest.mark.parametrize("priors", [(-1.0,), (-1.0, 0.5), (-1.0, math.nan), (-1.0, "1"), "ab", 3])
def test_priors_are_log_probabilities_one_for_each_label(priors):
    with pytest.raises(OptionError, match="prior"):
        Labels(AB, priors=priors)


def test_labels_in_another_order_keep_their_own_priors():
    own = Labels(AB, priors=(-0.1, -2.5))
    assert override(own, Labels((AB[1], AB[0]))).priors == (-2.5, -0.1)


def test_the_score_is_the_expected_place_among_the_labels():
    labels = Labels(("exact", "good", "partial", "none"))
    shares = [0.1, 0.2, 0.3, 0.4]
    decided = labels.decide([math.log(share) for share in shares])
    assert decided.score == pytest.approx(1 - (0.2 * 1 + 0.3 * 2 + 0.4 * 3) / 3)
    assert labels.decide([0.0, -800.0, -800.0, -800.0]).score == 1
    assert labels.decide([-800.0, -800.0, -800.0, 0.0]).score == 0


def test_labels_that_are_the_same_keep_their_calibration():
    own = Labels(AB, temperature=1.6, threshold=0.8, otherwise="?")
    assert override(own, Labels(AB)) == own
    turned = override(own, Labels(AB[::-1]))
    assert turned == replace(own, labels=AB[::-1])
    for other in (Labels((*AB, "OTHER")), Labels(AB, threshold=0.1), Regex("x"), TEXT):
        assert override(own, other) is other
    assert override(TEXT, own) is own
    build = {"ALERT": 1, "QUIET": 2}.get
    assert override(own, Labels(AB, build=build)).build is build


def test_a_program_of_another_type_is_another_program_and_its_forward_pass_the_same():
    program = tiny.program("qwen3")
    assert program.typed(None) is program
    assert program.typed(TEXT) is program
    typed = program.typed(Labels(AB))
    assert typed.typed(Labels(AB)) is typed
    digests = {program.digest(), typed.digest(), program.typed(Regex("x")).digest()}
    digests |= {
        typed.typed(Labels(AB, threshold=0.5)).digest(),
        typed.typed(Schema.of({})).digest(),
    }
    assert len(digests) == 5
    assert typed.digest(typed=False) == program.digest() == program.digest(typed=False)
    assert copy.deepcopy(program).digest() == program.digest()


def test_a_program_without_a_type_has_the_id_that_it_had_before_there_were_types():
    bare = tiny.program("qwen3", seed=None)
    assert bare.digest() == "4e2d1063783d6512861ce86c235ecee6"


def result(text: str, output: Any, reason: str = "stop") -> Result:
    return Result(text, reason, 1, 1, 9, 0.1, 0.1, output=output)


def test_a_result_has_the_value_of_its_type():
    assert result("so", TEXT).value == "so"
    assert result("so", TEXT, "length").value == "so"
    assert result('{"a": [1]}', Schema.of({})).value == {"a": [1]}
    assert result("12", Regex(r"\d+")).value == "12"
    with pytest.raises(OutputError, match="was cut after 9 tokens"):
        _ = result('{"a":', Schema.of({}), "length").value
    for text in ('{"a":', "[" * 100_000, "1" * 5000):
        with pytest.raises(OutputError, match="no whole JSON"):
            _ = result(text, Schema.of({})).value


def test_a_schema_is_json():
    for schema in ({"enum": {1, 2}}, {"const": math.nan}, {"const": "\ud800"}):
        with pytest.raises(OptionError, match="the schema is no JSON"):
            Schema.of(schema)


def test_a_result_is_told_in_json_with_its_decision():
    decided = Labels(AB).decide([math.log(0.3), math.log(0.1)])
    told = replace(result("ALERT", Labels(AB)), decision=decided).record()
    assert json.loads(json.dumps(told)) == told
    assert told["label"] == told["text"] == "ALERT"
    assert told["probabilities"]["QUIET"] == pytest.approx(0.25)
    assert {"output", "decision"}.isdisjoint(told)
