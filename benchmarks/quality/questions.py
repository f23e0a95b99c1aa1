"""What a compiler is judged by: functions of a corpus that it was not trained on, in three sets.

unseen     of kinds that were trained on: the twentieth that `corpus.divide_corpus` sets apart
held-out   of kinds that were held out whole
test       those in a file named test.jsonl: for tests alone
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from paw_mlx.benchmarks.accuracy.methods import Question
from paw_mlx.benchmarks.accuracy.tasks import FUNCTIONS, Example, Task, draw, own_chance
from paw_mlx.benchmarks.generators.bank import words
from paw_mlx.corpus import FuzzyFunction, divide_corpus, read_corpus
from paw_mlx.errors import OptionError
from paw_mlx.output import TEXT, Labels, Output
from paw_mlx.training.sampling import choose

CORPUS = FUNCTIONS.parent / "train", FUNCTIONS
HELD_KINDS = FUNCTIONS.with_name("held_out.txt")
SETS = ("unseen", "held-out", "test")
Sets = Mapping[str, Sequence[FuzzyFunction]]

# Pairs that name two sides, and neither of them; yes and no, in any words, are none.
_SIDES = {
    frozenset(pair.split())
    for pair in (
        "hot cold", "red green", "left right", "up down", "in out", "alpha beta", "alpha zeta",
        "sun moon", "high low", "cat dog", "north south", "one two", "day night", "foo bar",
        "salt pepper", "open shut", "take leave",
    )
}  # fmt: skip
_SHORT = 2  # characters of a code: A, 10, #1
_SAY_SO = ({"y", "n"}, {"t", "f"}, {"ok"}, {"no"}, {"ja"})  # short, and no codes


@dataclass(frozen=True, eq=False)
class Asked:
    """A function under one of its specs, of a set; `task` has the cases that it is judged by."""

    set: str
    function: FuzzyFunction
    task: Task

    @cached_property
    def output(self) -> Output:
        """The type of its outputs: its labels, or any text."""
        return Labels(self.function.labels) if self.function.labels else TEXT

    @property
    def is_arbitrary(self) -> bool:
        """Whether it has two labels, and their names say nothing."""
        return is_arbitrary(self.function.labels or ())

    def learning(self, num: int, seed: int) -> Task | None:
        """Return its task with `num` cases to learn from, and the others to test.

        The labels balance, and fewer cases are always among more. None if nothing is left to test.
        """
        cases = self.function.cases
        learned = choose(cases, num, own_chance(self.function.name, seed))
        kept = {case.input for case in learned}
        test = [example for example in self.task.test if example.input not in kept]
        if len(learned) < num or not test:
            return None
        return Task.of(self.task.spec, test, [Example(c.input, c.output) for c in learned])

    def question(self, max_tokens: int, task: Task | None = None) -> Question:
        """Return it as methods are asked it, with another `task` if that is given."""
        return Question(task or self.task, self.task.spec, max_tokens)


def read_sets(paths: Sequence[Path], held_kinds: Iterable[str]) -> Sets:
    """Read a corpus, and divide what of it a compiler is judged by into the three sets.

    Errors as those of `read_corpus` and `divide_corpus`.
    """
    files = [path / FUNCTIONS.name if path.is_dir() else path for path in paths]
    kept = [file for file in files if file.name == FUNCTIONS.name and file.is_file()]
    test = read_corpus(kept)
    names = {function.name for function in test}
    others = [function for function in read_corpus(paths) if function.name not in names]
    division = divide_corpus(others, held_kinds)
    return dict(zip(SETS, (division.unseen, division.held_kinds, test), strict=True))


def ask(
    sets: Sets, chosen: Iterable[str], functions: int | None, cases: int | None, seed: int
) -> list[Asked]:
    """Choose what is asked: so many functions of each set, by a spec and so many cases of each.

    None is all; functions, specs and cases are drawn by the seed. OptionError if there is nothing.
    """
    if any(num is not None and num < 1 for num in (functions, cases)):
        raise OptionError("functions and cases must be at least 1")
    asked = []
    for name in chosen:
        for function in draw(sets[name], functions, own_chance(name, seed)):
            chance = own_chance(function.name, seed)
            spec = chance.choice(function.specs)
            task = Task.of(spec, (Example(case.input, case.output) for case in function.cases))
            task = replace(task, test=tuple(draw(task.test, cases, chance)))
            asked.append(Asked(name, function, task))
    if not asked:
        raise OptionError(
            "the corpus has no function to judge a compiler by",
            hint="Of its functions a twentieth is; whole kinds with --hold-out; all of test.jsonl.",
        )
    return asked


def is_arbitrary(labels: Sequence[str]) -> bool:
    """Return whether labels are two whose names say nothing: only the spec tells which is which.

    Both are codes of up to two characters (A, 0, #1; not Y and N, T and F, OK), or words that the
    generator of the corpus invents, or they are two sides of something (hot, cold).
    """
    if len(labels) != 2:
        return False
    lower = [label.lower() for label in labels]
    if any(said <= {*lower} for said in _SAY_SO):
        return False
    coined = re.compile(rf"(?:{'|'.join(words('syllable'))}){{2,3}}")
    codes = all(len(label) <= _SHORT for label in lower)
    return codes or frozenset(lower) in _SIDES or all(map(coined.fullmatch, lower))
