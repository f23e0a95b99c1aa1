"""What a teacher's answer holds, and which of its pairs are kept."""

from __future__ import annotations

import json
import time

import pytest

from paw_mlx import Labels, Regex, Schema
from paw_mlx.output import TEXT
from paw_mlx.teaching import sieve as why
from paw_mlx.teaching.answers import read_output, read_pairs, read_strings
from paw_mlx.teaching.function import Function

PAIRS = [{"input": f"text {n}", "output": "yes"} for n in range(3)]
TEXTS = [("text 0", "yes"), ("text 1", "yes"), ("text 2", "yes")]
LIST = json.dumps(PAIRS)
LABELS = Labels(("yes", "no"))


@pytest.mark.parametrize(
    ("answer", "pairs", "malformed"),
    [
        (LIST, TEXTS, 0),
        ("\n".join(map(json.dumps, PAIRS)), TEXTS, 0),
        (json.dumps({"examples": PAIRS}), TEXTS, 0),
        (f"Sure! Here they are:\n```json\n{LIST}\n```\nAnything else?", TEXTS, 0),
        (f"<think>{json.dumps(PAIRS[0])} is too easy</think>{LIST}", TEXTS, 0),
        (LIST[:-12], TEXTS[:2], 1),
        (LIST.replace('"text 1"', "text 1"), [TEXTS[0], TEXTS[2]], 1),
        (json.dumps({"examples": PAIRS})[:-14], TEXTS[:2], 1),
        (LIST.replace('"text 1"', "7"), [TEXTS[0], TEXTS[2]], 1),
        ('[{"input": "a {b}\nc", "output": {"x": 1.5}}]', [("a {b}\nc", '{"x": 1.5}')], 0),
        ('{"input": "half \\ud800", "output": "yes"}', [], 1),
        ('{"answer": "yes"} {"input": "a"}', [], 1),
        ("I would rather not.", [], 0),
        ("", [], 0),
    ],
)
def test_each_whole_pair_is_taken_and_the_others_are_counted(answer, pairs, malformed):
    assert read_pairs(answer) == (pairs, malformed)


@pytest.mark.parametrize("piece", ["{", '{"a":', '{"input": "', "[[{", '{"input": [{'])
def test_an_answer_that_means_harm_is_done_with_soon(piece):
    start = time.perf_counter()
    assert read_pairs(piece * 200_000)[0] == []
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    "answer",
    ['["soup", "trains"]', "Topics:\n[\n'soup',\n", "1. soup\n2. trains", "- soup\n* trains"],
)
def test_topics_are_read_from_a_list_of_any_kind(answer):
    assert "soup" in [text.strip("' ") for text in read_strings(answer)]


@pytest.mark.parametrize(
    ("answer", "output"),
    [
        (" yes\n", "yes"),
        ('"yes"', "yes"),
        ("Output: yes", "yes"),
        ("<think>no?</think>\n\nyes", "yes"),
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
        ('"', '"'),
    ],
)
def test_an_output_stands_alone(answer, output):
    assert read_output(answer) == output


def judged(output, *pairs, spec="Is it so?", num=100):
    """The outputs that are kept of some pairs, one after the other, or why they are not."""
    sieve, found = Function(spec, output).sieve(num), []
    for text, said in pairs:
        read, reason = sieve.judge(text, said)
        found.append(reason or read)
        if not reason:
            sieve.add(text, read)
    return found


def test_a_pair_that_says_nothing_new_is_dropped():
    assert judged(
        LABELS,
        ("Call Anna at 5 about the lamp", "yes"),
        ("call  Anna at 5 about the LAMP.", "yes"),
        ("Call Anna at 5 about the lamp!", "no"),
        ("Call Berta at 17:30 about the lamp", "yes"),
        ("Call Berta at 17:30 about the lamp", "no"),
        ("Call Anna at 5 about the roof", "yes"),
    ) == ["yes", why.DUPLICATE, why.CONTRADICTION, why.SAME_SHAPE, "no", "yes"]


def test_what_is_hardly_more_than_a_number_is_no_shape():
    assert (
        judged(TEXT, ("7", "odd"), ("9", "odd"), ("3 + 4", "odd"), ("3 - 4", "odd")) == ["odd"] * 4
    )


def test_a_missing_comma_is_another_input():
    texts = ['{"a": 1 "name": "x" "size": 2}', '{"a": 1, "name": "x" "size": 2}']
    assert judged(TEXT, *((text, '{"a": 1}') for text in texts)) == ['{"a": 1}'] * 2


def test_an_input_that_was_shown_is_no_new_one():
    spec = "Is it so?\n\nInput: It rains.\nOutput: yes"
    pairs = [("it rains", "yes"), ("…", "yes"), (" ", "yes"), ("x" * 4001, "yes")]
    assert judged(LABELS, *pairs, spec=spec) == [
        why.COPIED,
        why.COPIED,
        why.TOO_SHORT,
        why.TOO_LONG,
    ]


def test_labels_are_known_in_other_letters_and_balance():
    assert judged(LABELS, ("a", "YES."), ("b", "maybe"), ("c", "")) == [
        "yes",
        *[why.WRONG_TYPE] * 2,
    ]
    assert judged(Labels(("A", "a")), ("b", "A"), ("c", "A.")) == ["A", why.WRONG_TYPE]
    texts = [(f"text {word}", "yes") for word in ("one", "two", "three", "four")]
    assert judged(LABELS, *texts, num=4) == ["yes", "yes", "yes", why.ENOUGH]


def test_outputs_of_a_schema_or_regex_are_such_as_the_interpreter_would_say():
    schema = Schema.of(
        {
            "type": "object",
            "properties": {"paid": {"type": "boolean"}, "sum": {"type": "integer"}},
            "required": ["paid", "sum"],
            "additionalProperties": False,
        }
    )
    right = '{"paid": true, "sum": 3}'
    said = [
        '{"paid":true,\n"sum":3}',
        '{"paid": 1, "sum": 3}',
        '{"sum": 3, "paid": true}',
        "{",
        "NaN",
    ]
    pairs = [(f"text {n}", output) for n, output in enumerate(said)]
    assert judged(schema, *pairs) == [right, *[why.WRONG_TYPE] * 4]
    assert judged(Regex(r"\d\d"), ("a", "12"), ("b", "123"), ("c", "1")) == [
        "12",
        why.WRONG_TYPE,
        why.WRONG_TYPE,
    ]


def test_free_text_agrees_by_its_words_and_the_rest_by_all_of_it():
    text = Function("Say it.", TEXT).sieve(1)
    assert text.agree("The parcel came late, and wet.", "the parcel was late and wet")
    assert not text.agree("The parcel came late.", "A refund was asked for")
    assert text.agree("+", "+")
    assert not text.agree("+", "-")
    assert not Function("Say it.", LABELS).sieve(1).agree("yes", "no")
