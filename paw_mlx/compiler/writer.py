"""A pseudo-program without a model: the spec as its task, the pairs that stand in it as examples.

What the embedded compiler was trained on, and all that it needs; a pseudo-compiler of 4B would
restate the spec and invent examples instead.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from typing import NamedTuple

from .. import prompts
from ..cases import group_by_output, take_in_turn
from ..progress import Progress, quiet
from ..words import counted
from .pseudo import Room, check_length
from .wordings import PLAIN, Draw

_CLAUSES = (
    "Return ONLY one of: {}",
    "Answer with one of these labels: {}",
    "The output is one of {}.",
    "Choose between {}, and say nothing else.",
)
_MOST_LABELS, _MOST_SHOTS = 20, 4  # named once more, and cases shown, at most
_PAIR = re.compile(r"^Input: *(.*)\nOutput: *(.*)$", re.MULTILINE)


class SpecWriter:
    """Stands where a pseudo-compiler does, and needs no model.

    The plain draw is the spec as it stands. Others vary what the prompt shows: the spec's own
    pairs or not, some of the cases that may be shown, the order of both, and the labels named once
    more, in other words and another order.
    """

    def write(self, spec: str, room: Room, report: Progress = quiet, draw: Draw = PLAIN) -> str:
        """Write the pseudo-program of a spec; CompileError if the spec is too long."""
        if not draw.number:
            return check_length(write_pseudo_program(spec), room)
        plan, (task, pairs) = _plan(draw), split_examples(spec)
        shown = [*(pairs if plan.keeps_pairs else []), *plan.shots]
        random.Random(draw.chance).shuffle(shown)
        return check_length(prompts.pseudo_program(f"{task}\n{plan.clause}", shown), room)

    def record(self, draw: Draw = PLAIN) -> dict[str, str]:
        """Return what a program records of it."""
        how = "the spec, varied" if draw.number else "the spec as it stands"
        return {"pseudo_compiler": f"none: {how}"}

    def describe(self, draw: Draw, spec: str) -> str:
        """Say in a few words how a draw is written."""
        if not draw.number:
            return "the spec as it stands"
        plan = _plan(draw)
        parts = ["its examples in another order" if plan.keeps_pairs else "without its examples"]
        parts = parts if split_examples(spec)[1] else []
        parts += [f"{counted(len(plan.shots), 'case')} shown"] if plan.shots else []
        parts += ["the labels named again"] if plan.clause else []
        return ", ".join(["the spec", *parts])

    def close(self) -> None:
        """Do nothing: nothing is held."""


class _Plan(NamedTuple):
    keeps_pairs: bool
    shots: list[tuple[str, str]]
    clause: str


def _plan(draw: Draw) -> _Plan:
    """Draw what a prompt shows."""
    chance = random.Random(draw.chance)
    pool = group_by_output(chance.sample(draw.shots, len(draw.shots)))
    shots = take_in_turn(pool, chance.randint(0, min(_MOST_SHOTS, len(draw.shots))))
    labels = draw.labels if len(draw.labels) <= _MOST_LABELS else ()
    clause = chance.choice(("", *_CLAUSES)).format(", ".join(chance.sample(labels, len(labels))))
    pairs = [(case.input, case.output) for case in shots]
    return _Plan(chance.random() < 0.5, pairs, clause if labels else "")


def write_pseudo_program(spec: str, examples: Iterable[tuple[str, str]] = ()) -> str:
    """Return the pseudo-program of a spec: what it says, its own pairs, then more `examples`."""
    task, shown = split_examples(spec)
    return prompts.pseudo_program(task, [*shown, *examples])


def split_examples(spec: str) -> tuple[str, list[tuple[str, str]]]:
    """Part the pairs of lines `Input: …`, `Output: …` from what else a spec says.

    A spec of pairs alone stays as it is: a task has to say something.
    """
    shown = [(text.strip(), output.strip()) for text, output in _PAIR.findall(spec)]
    task = re.sub(r"\n{2,}", "\n", _PAIR.sub("", spec)).strip()
    return (task, shown) if task else (spec.strip(), [])
