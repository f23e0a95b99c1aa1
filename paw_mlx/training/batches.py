"""Which rows a step takes: classes and, within one, shapes in turn, however rare.

Most lines of a log are a few messages again and again, with other numbers in them. A group's share
is as the square root of its rows: of 931 QUIET and 69 ALERT, 21 % of what is drawn is ALERT instead
of 7 %, and 228 lines that differ in their numbers count as 15. So what is rare is learned, and what
is common still seen. Within a group, every row comes once before any comes twice.

What is drawn follows from rows and seed alone: a run that goes on skips what it has had.
"""

from __future__ import annotations

import heapq
import random
import re
from collections.abc import Iterator, Sequence

from ..cases import Case, group_by_output

ROWS_A_CLASS = 5  # fewer on average, and outputs are texts rather than classes
_NUMBERED = re.compile(r"\w*\d\w*")


def classes(rows: Sequence[Case]) -> list[list[Case]]:
    """Return rows by their class, which is their output; one class where outputs are texts."""
    groups = group_by_output(rows)
    return groups if len(groups) * ROWS_A_CLASS <= len(rows) else [list(rows)]


def balanced(rows: Sequence[Case], size: int, seed: int) -> Iterator[list[Case]]:
    """Yield batches of `size` rows without end."""
    chance = random.Random(seed)
    groups = classes(rows)
    drawn = _in_turn(
        [len(group) ** 0.5 for group in groups],
        [_by_shape(group, random.Random(chance.random())) for group in groups],
        chance,
    )
    while True:
        yield [next(drawn) for _ in range(size)]


def _by_shape(rows: Sequence[Case], chance: random.Random) -> Iterator[Case]:
    """Yield rows without end, shapes in turn: inputs that differ in words with digits alone."""
    shapes: dict[str, list[Case]] = {}
    for row in rows:
        shapes.setdefault(_NUMBERED.sub("0", row.input), []).append(row)
    weights = [len(shape) ** 0.5 for shape in shapes.values()]
    return _in_turn(weights, [_endless(shape, chance) for shape in shapes.values()], chance)


def _endless(rows: Sequence[Case], chance: random.Random) -> Iterator[Case]:
    while True:
        yield from chance.sample(rows, len(rows))


def _in_turn(
    weights: Sequence[float], streams: Sequence[Iterator[Case]], chance: random.Random
) -> Iterator[Case]:
    """Yield from streams by their weights, each at even distances."""
    heap = [(chance.random() / weight, place) for place, weight in enumerate(weights)]
    heapq.heapify(heap)
    while True:
        time, place = heap[0]
        yield next(streams[place])
        # A little chance, so that equal weights do not come in one order again and again.
        heapq.heapreplace(heap, (time + (0.9 + 0.2 * chance.random()) / weights[place], place))
