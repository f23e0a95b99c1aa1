"""What a step of a compiler's training is made of: functions, and some cases of each.

A batch depends on the seed and the step's number alone, so a run that is taken up again goes on
as if it had never stopped.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .. import prompts
from ..cases import Case, group_by_output, take_in_turn
from ..compiler.writer import split_examples, write_pseudo_program
from ..corpus import FuzzyFunction
from ..errors import InputTooLong, OptionError
from ..interpreter.engine.scoring import Encoded, encode_cases
from ..interpreter.models.load import Base

_POOL = 8  # batches whose functions are sorted by length together: less padding
_SHOWN = 0.3  # how often cases stand in the pseudo-program, where the spec holds no pairs
_MOST_SHOWN = 4


class Drawn(NamedTuple):
    """A function as one step sees it: a spec of it, its prompt and cases in tokens."""

    spec: str
    prompt: list[int]
    cases: list[Encoded]


class Sampler:
    """Draws functions and cases for a base; OptionError if there are fewer than a batch takes."""

    def __init__(
        self,
        base: Base,
        functions: Sequence[FuzzyFunction],
        *,
        functions_per_batch: int,
        cases_per_function: int,
        max_tokens: int,
        seed: int,
    ) -> None:
        if len(functions) < functions_per_batch:
            raise OptionError(
                f"a step takes {functions_per_batch} functions, and there are {len(functions)}"
            )
        self._base, self._functions, self._seed = base, functions, seed
        self._width, self._num_cases = functions_per_batch, cases_per_function
        self._max_tokens = max_tokens
        self._epoch: tuple[int, list[list[FuzzyFunction]]] = -1, []

    def batch(self, number: int) -> list[Drawn]:
        """Draw the batch of step `number`, counted from 1."""
        chance = random.Random(f"step {number} of {self._seed}")
        each = len(self._functions) // self._width
        epoch, place = divmod(number - 1, each)
        if epoch != self._epoch[0]:
            self._epoch = epoch, self._batches(epoch)
        return [self._draw(function, chance) for function in self._epoch[1][place]]

    def _batches(self, epoch: int) -> list[list[FuzzyFunction]]:
        """Deal the functions into batches of about equal length each."""
        chance = random.Random(f"epoch {epoch} of {self._seed}")
        order = chance.sample(self._functions, len(self._functions))
        batches: list[list[FuzzyFunction]] = []
        for pool in _chunks(order, _POOL * self._width):
            batches += _chunks(sorted(pool, key=_length), self._width)
        batches = [batch for batch in batches if len(batch) == self._width]
        chance.shuffle(batches)
        return batches

    def _draw(self, function: FuzzyFunction, chance: random.Random) -> Drawn:
        spec, cases = chance.choice(function.specs), list(function.cases)
        shown: list[Case] = []
        if not split_examples(spec)[1] and chance.random() < _SHOWN:
            picked = choose(cases, min(chance.randint(1, _MOST_SHOWN), len(cases) // 2), chance)
            shown, kept = picked, {id(case) for case in picked}
            cases = [case for case in cases if id(case) not in kept]
        pseudo = write_pseudo_program(spec, ((case.input, case.output) for case in shown))
        chosen = choose(cases, self._num_cases, chance)
        return encode(self._base, spec, pseudo, chosen, self._max_tokens)


def encode(
    base: Base, spec: str, pseudo: str, cases: Sequence[Case], max_tokens: int | None = None
) -> Drawn:
    """Tokenize a function; cases that exceed `max_tokens` together are left out, but the first.

    InputTooLong for a prompt and a case that exceed the base's window.
    """
    template = prompts.template(pseudo, base.profile.turn)
    prompt = base.tokenizer.encode(template.prefix, control=True)
    try:
        encoded = encode_cases(base, template, cases)
    except InputTooLong as error:
        raise InputTooLong(
            f"a function of the spec {spec[:40]!r}, {error}",
            hint="Leave the function out, or shorten it.",
        ) from error
    found: list[Encoded] = []
    length = len(prompt)
    for case in encoded:
        length += len(case.input) + len(case.output)
        if max_tokens and found and length > max_tokens:
            break
        found.append(case)
    return Drawn(spec, prompt, found)


def choose(cases: Sequence[Case], num: int, chance: random.Random) -> list[Case]:
    """Choose cases at random, one of each output in turn, so that labels balance."""
    groups = group_by_output(chance.sample(cases, len(cases)))
    return take_in_turn(chance.sample(groups, len(groups)), num)


def _chunks(functions: Sequence[FuzzyFunction], size: int) -> Iterator[list[FuzzyFunction]]:
    for start in range(0, len(functions), size):
        yield list(functions[start : start + size])


def _length(function: FuzzyFunction) -> int:
    cases = function.cases
    return max(map(len, function.specs)) + 3 * sum(len(c.input) for c in cases) // len(cases)
