"""Tunings on a tiny base, some seconds each: a task to learn, and cases as bad as they come.

An input is a number and a word, and its output says whether the word is about machines.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import tiny

from paw_mlx.cases import Case
from paw_mlx.evaluation import judge
from paw_mlx.functions import Function
from paw_mlx.interpreter import Interpreter
from paw_mlx.interpreter.models.load import Base, load_base
from paw_mlx.output import Labels
from paw_mlx.program import Program
from paw_mlx.training.program import fit_adapter
from paw_mlx.training.recipe import Recipe
from paw_mlx.training.replay import case_key
from paw_mlx.training.tune import Tuned, tune

WORDS = ["disk", "server", "full", "down", "picnic", "spring", "Friday", "welcome"]
INPUTS = [f"{number} {word}" for number, word in product(range(80), WORDS)]
LABELS = Labels(("A", "B"))
_FRESH = 300


@dataclass(frozen=True)
class Trial:
    """A tuning, and in truth the accuracies before and after, on inputs nobody has seen."""

    tuned: Tuned
    before: float
    after: float | None

    @property
    def is_harmful(self) -> bool:
        """Whether what was trained is worse by more than 2 points."""
        return self.after is not None and self.after < self.before - 0.02


def right(text: str) -> str:
    return "A" if text.split()[-1] in WORDS[:4] else "B"


def wrong(text: str) -> str:
    return "AB".replace(right(text), "")


def draw_cases(inputs: Sequence[str], noise: float, chance: random.Random) -> list[Case]:
    """Make cases, a share of them with the wrong label."""
    return [Case(text, (wrong if chance.random() < noise else right)(text)) for text in inputs]


def make_base(folder: Path) -> Base:
    return load_base(tiny.write_base(folder, "llama"))


def make_program(base: Base, cases: Sequence[Case], steps: int, seed: int = 0) -> Program:
    """Train a program whose prompt is short, so that steps are."""
    template = tiny.program("llama").template
    recipe = Recipe(8, 16.0, steps, 3e-3, checks=2, seed=seed)
    fitted = fit_adapter(base, template, cases[4:], cases[:4], recipe, output=LABELS)
    meta = {"training": {"seen": sorted(map(case_key, cases))}}
    return Program(template, fitted.adapter, base.profile.repo, "Triage.", "", meta, LABELS)


def accuracy(base: Base, program: Program, inputs: Sequence[str]) -> float:
    with Interpreter(base) as interpreter:
        cases = [Case(text, right(text)) for text in inputs]
        return judge(Function(interpreter, program), cases).accuracy


def try_one(base: Base, seed: int, *, anyway: bool = False) -> Trial:
    """Tune a program by cases that are few, noisy and contradictory; judge it in truth."""
    chance = random.Random(seed)
    inputs = chance.sample(INPUTS, len(INPUTS))
    fresh, inputs = inputs[:_FRESH], inputs[_FRESH:]
    first, inputs = inputs[:40], inputs[40:]
    old = make_program(base, draw_cases(first, 0, chance), chance.choice([5, 15, 40]), seed)
    num, noise = chance.choice([8, 30, 60, 120]), chance.choice([0, 0.1, 0.2, 0.3])
    cases = draw_cases(inputs[:num], noise, chance)
    cases += [Case(c.input, wrong(c.input)) for c in cases[: num // 10]]  # some contradictions
    pairs = draw_cases(inputs[num : num + chance.choice([0, 40])], chance.choice([0, 0.5]), chance)
    steps, learning_rate = chance.choice([5, 10, 30]), chance.choice([1e-3, 3e-3, 1e-2])
    recipe = Recipe(steps=steps, learning_rate=learning_rate, checks=2, seed=seed)
    tuned = tune(base, old, cases, pairs, recipe, anyway=anyway)
    after = accuracy(base, tuned.program, fresh) if tuned.program else None
    return Trial(tuned, accuracy(base, old, fresh), after)
