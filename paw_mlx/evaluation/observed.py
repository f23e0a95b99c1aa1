"""What a function makes of many inputs, in numbers that take little room however many."""

from __future__ import annotations

import random
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field

from ..errors import FormatError, PawError
from ..functions import Function
from ..output import Labels
from ..rows.flow import Outcome, outcomes
from ..runner import Options, Result

ABSTAINED, OTHER = "(abstained)", "(other)"
_MAX_KEPT = 1 << 16  # values of a kind
_MAX_OUTPUTS = 1000  # different ones that are counted apart
_MAX_LABELS = 50  # outputs of text that are taken for labels,
_PER_LABEL = 4  # if they come so often, on average


class Kept:
    """Values as they come: all, or 65,536 drawn at random (Vitter's
    algorithm R, ACM TOMS 11, 1985)."""

    def __init__(self) -> None:
        self.values, self.num = array("d"), 0
        self._chance = random.Random(0)

    def add(self, value: float) -> None:
        """Take a value in."""
        self.num += 1
        if len(self.values) < _MAX_KEPT:
            self.values.append(value)
        elif (place := self._chance.randrange(self.num)) < _MAX_KEPT:
            self.values[place] = value


@dataclass
class Observed:
    """What a function made of inputs; lengths are in characters.

    `outputs` counts what was said: labels, or the first 1,000 different texts and then `OTHER`.
    `probability`, of the likeliest label, and `in_scope` are of labels alone.
    """

    labels: tuple[str, ...] = ()
    num: int = 0
    num_failed: int = 0
    num_unended: int = 0
    outputs: Counter[str] = field(default_factory=Counter)
    input_chars: Kept = field(default_factory=Kept)
    output_chars: Kept = field(default_factory=Kept)
    probability: Kept = field(default_factory=Kept)
    in_scope: Kept = field(default_factory=Kept)

    @classmethod
    def like(cls, before: Observed) -> Observed:
        """Begin to observe what is to be compared with that: its outputs are counted by name."""
        return cls(before.labels, outputs=Counter(dict.fromkeys(before.categories(), 0)))

    @property
    def num_run(self) -> int:
        """How many inputs did not fail."""
        return self.num - self.num_failed

    def add(self, text: str, answer: Result | PawError) -> None:
        """Count an input, and what came of it."""
        self.num += 1
        if not isinstance(answer, FormatError):  # a malformed row has no input
            self.input_chars.add(len(text))
        if isinstance(answer, PawError):
            self.num_failed += 1
            return
        self.num_unended += not answer.is_whole
        said = answer.text.strip()
        self.output_chars.add(len(said))
        if decision := answer.decision:
            said = ABSTAINED if decision.abstained else decision.label
            self.probability.add(decision.probability)
            self.in_scope.add(decision.in_scope)
        known = self.labels or said in self.outputs or len(self.outputs) < _MAX_OUTPUTS
        self.outputs[said if known else OTHER] += 1

    def categories(self) -> list[str]:
        """Return the labels; of text its outputs, if they are few and come again; else none."""
        if self.labels:
            return [*self.labels, ABSTAINED]
        few = 1 < len(self.outputs) <= min(_MAX_LABELS, self.num_run // _PER_LABEL)
        return sorted(self.outputs) if few else []


def observe(
    function: Function,
    rows: Iterable[tuple[str, str | PawError] | None],
    options: Options,
    *,
    into: Observed | None = None,
    batch_size: int | None = None,
    wake: Callable[[], None] | None = None,
    on_row: Callable[[Outcome[str]], None] = lambda _: None,
) -> Observed:
    """Run a function on rows of (text, the same or what is wrong with it), as `rows.flow` does.

    `into` is added to, where it is given. `on_row` hears of each row. An input's own PawError is
    counted; ClosedError and the source's are raised.
    """
    output = function.program.output
    found = into or Observed(output.labels if isinstance(output, Labels) else ())
    running = outcomes(
        function.runner,
        function.program,
        rows,
        options,
        batch_size=batch_size,
        wake=wake,
    )
    with closing(running):
        for outcome in running:
            found.add(outcome.item, outcome.answer)
            on_row(outcome)
    return found
