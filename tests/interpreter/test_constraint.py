"""What a row may say: constraints in the batch step, beside rows that have none."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
import tiny
from engine_room import submit

from paw_mlx import AdapterMismatch, Interpreter, Options
from paw_mlx.adapter import Adapter
from paw_mlx.interpreter.engine.constraint import mask

INPUTS = ["the disk is full", "picnic on Friday", "0 1 0 1 0 1", "Grüße", "the server is down"]


class OneOf:
    """One of several token sequences: the smallest constraint that is of use."""

    def __init__(self, texts: Sequence[Sequence[int]], vocab: int, *, sure: bool) -> None:
        self.left, self.vocab, self.sure = [list(text) for text in texts], vocab, sure
        self.num_forced = 0

    def forced(self, limit: int) -> list[int]:
        """What all of them go on with."""
        if not self.sure:
            return []
        columns = (set(column) for column in zip(*self.left, strict=False))
        alike = itertools.takewhile(lambda column: len(column) == 1, columns)
        tokens = [column.pop() for column in alike][:limit]
        self.num_forced += len(tokens)
        return tokens

    def allowed(self, draft: Sequence[int]) -> np.ndarray:
        may = np.zeros((1 + len(draft), self.vocab), bool)
        left = self.left
        for i in range(1 + len(draft)):
            may[i, [text[0] for text in left if text]] = True
            if i < len(draft):
                left = [text[1:] for text in left if text and text[0] == draft[i]]
        return may

    def push(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            self.left = [text[1:] for text in self.left if text and text[0] == token]


LABELS = ["the disk is full of spam", "the disk is empty and clean", "picnic on Friday"]


def one_of(interpreter: Interpreter, labels: Sequence[str], *, sure: bool = True) -> OneOf:
    base = interpreter.base
    texts = [[*base.tokenizer.encode(label), base.end] for label in labels]
    return OneOf(texts, tiny.tokenizer().get_vocab_size(), sure=sure)


def constrained(interpreter, program, text, options=None, labels=LABELS, *, sure=True):
    """A call that may say one of the labels, handed over."""
    call = interpreter._call(program, text, options or Options())  # as a typed program will
    call.constraint = one_of(interpreter, labels, sure=sure)
    submit(interpreter, call)
    return call


def test_an_output_is_one_of_the_labels_beside_rows_that_are_free(interpreter, family, ahead):
    a, b = tiny.program(family, 1), tiny.program(family, 2)
    free = [interpreter.run(b, text, Options(max_tokens=30)).text for text in INPUTS]
    calls = [constrained(interpreter, a, text) for text in INPUTS]
    beside = [interpreter.submit(b, text, Options(max_tokens=30)) for text in INPUTS]
    assert {call.future.result(60).text for call in calls} <= set(LABELS)
    assert [future.result(60).text for future in beside] == free


def test_forced_tokens_cost_no_step_of_their_own_and_change_nothing(interpreter, family):
    program = tiny.program(family, 1)
    for text in INPUTS:
        slow = constrained(interpreter, program, text, Options(lookup=False), sure=False)
        fast = constrained(interpreter, program, text, Options(lookup=False))
        expected, result = slow.future.result(60), fast.future.result(60)
        assert result.text == expected.text
        assert result.output_tokens == expected.output_tokens == expected.num_steps
        assert result.num_steps < expected.num_steps
        assert fast.constraint.num_forced


def test_drafts_from_the_input_hold_only_where_they_may(interpreter, family):
    program, labels = tiny.program(family, 1), ["the disk is full of", "the picnic is full of"]
    text = "the disk is full of the picnic is full of the disk"
    expected = constrained(
        interpreter, program, text, Options(lookup=False), labels, sure=False
    ).future.result(60)
    for _ in range(4):  # the habit grows, and drafts with it
        call = constrained(interpreter, program, text, None, labels, sure=False)
        assert call.future.result(60).text == expected.text in labels


def test_drawn_tokens_keep_to_what_may_be_said(interpreter, family):
    program = tiny.program(family, 1)
    calls = [
        constrained(interpreter, program, "picnic", Options(temperature=2.0, seed=seed))
        for seed in range(30)
    ]
    said = {call.future.result(60).text for call in calls}
    assert said <= set(LABELS)
    assert len(said) > 1


@pytest.mark.parametrize("num_forced", range(1, 9))
def test_what_follows_forced_tokens_is_drawn_too(interpreter, family, num_forced):
    program, start = tiny.program(family, 1), "0123456789"[:num_forced]
    labels = [f"{start}a", f"{start}b"]
    calls = [
        constrained(interpreter, program, "0 1", Options(temperature=3.0, seed=seed), labels)
        for seed in range(30)
    ]
    assert {call.future.result(60).text for call in calls} == set(labels)


def test_numbers_that_overflow_are_told_from_what_is_masked(interpreter, family):
    program = tiny.program(family, 3)
    sites = program.adapter.sites.items()
    broken = Adapter({site: replace(lora, alpha=1e37) for site, lora in sites})
    call = constrained(interpreter, replace(program, adapter=broken), "picnic")
    with pytest.raises(AdapterMismatch, match="leave the range"):
        call.future.result(60)
    assert constrained(interpreter, program, "picnic").future.result(60).text in LABELS


def test_without_constraints_logits_stay_the_very_array():
    logits = mx.zeros((3, 5))
    assert mask(logits, [None, None, None]) is logits


def test_masks_are_per_row_and_per_position():
    logits, constraint = mx.zeros((2, 3, 4)), OneOf([[1, 2], [3]], 4, sure=False)
    found = np.isfinite(np.array(mask(logits, [None, constraint], [[0, 0], [1, 0]])))
    assert found[0].all()
    assert found[1].tolist() == [
        [False, True, False, True],
        [False, False, True, False],
        [False, False, False, False],
    ]


@pytest.mark.parametrize("num_known", [3, 9])
def test_no_token_is_said_that_the_constraint_or_the_base_does_not_know(num_known):
    """A base may have rows of logits beyond its tokenizer's tokens, or fewer."""
    constraint = OneOf([[2]], num_known, sure=False)
    found = np.array(mask(mx.zeros((1, 6)), [constraint]))
    assert np.isfinite(found).tolist() == [[False, False, True, False, False, False]]
