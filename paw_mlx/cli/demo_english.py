"""The demo's first half: specs that the embedded compiler never saw become functions."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..cases import read_cases
from ..corpus import FuzzyFunction, read_corpus
from ..output import TEXT, Labels
from ..spec_output import labels_in_spec
from .common import printable, table
from .specs import read_text

if TYPE_CHECKING:
    from ..interpreter import Interpreter
    from ..program import Program

Say = Callable[[str], object]

# Of the sixty functions that no compiler was trained on, one of each kind of task.
FUNCTIONS = (
    "test/phone-app-route",
    "test/food-or-not",
    "test/deadline-words",
    "test/person-to-json",
    "test/drop-fillers",
)
TRAINED_ON = "email-triage"
_CASES = 20  # to train on, as many as one writes by hand
_JUDGED = 40  # cases before and after
_STEPS = 30
_ROWS = 8  # at once: more are no faster on a CPU
_WIDTH = 88
_HERE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Compiled:
    """A spec that became a program, and how many of its cases that has right."""

    name: str
    spec: str
    rows: int
    accuracy: float


@dataclass(frozen=True)
class TrainedOn:
    """A compiled program, before and after it was trained on from some cases."""

    name: str
    cases: int
    rows: int
    accuracy_before: float
    accuracy_after: float
    seconds: float


@dataclass(frozen=True)
class English:
    """All that was made of English, and the most memory that took."""

    compiled: list[Compiled]
    trained: TrainedOn
    peak_bytes: int

    def table(self) -> str:
        """Return it as a table."""
        head = ["from English alone", "rows", "right"]
        rows = [[each.name, str(each.rows), f"{each.accuracy:.1%}"] for each in self.compiled]
        one = self.trained
        return (
            f"\n{table([head, *rows])}\n\n"
            f"{one.name}, {one.rows} rows: compiled {one.accuracy_before:.1%}, trained on from "
            f"{one.cases} cases, {one.seconds:.0f} s, {one.accuracy_after:.1%}\n"
        )


def find_data(*names: str) -> Path:
    """Return a folder of the project's data: in the package where installed, beside it else."""
    inside = _HERE.joinpath(*names)
    return inside if inside.exists() else _HERE.parent.joinpath(*names)


def compile_english(path: Path, num: int, say: Say) -> English:
    """Compile the demo's specs for the base at `path`; run, train and judge what comes of them."""
    from .. import Interpreter
    from ..compiler.compilation import Compilation
    from ..compiler.pipeline import Compiler

    known = {f.name: f for f in read_corpus([find_data("benchmarks", "functions") / "test.jsonl"])}
    functions = [known[name] for name in FUNCTIONS]
    example = find_data("examples", TRAINED_ON)
    compilations = [Compilation(f.specs[0], output=_type(f)) for f in functions]
    compilations.append(Compilation(read_text(example / "spec.txt")))
    start = time.perf_counter()
    with Compiler.load("paw-smollm2-135m", interpreter=str(path)) as compiler:
        programs = [done.program for done in compiler.compile_all(compilations)]
    seconds = time.perf_counter() - start
    say(f"\n{len(programs)} specs compiled in {seconds:.1f} s; the compiler has seen none of them")
    *compiled, begun = [program for program in programs if program]
    with Interpreter.load(str(path), max_rows=_ROWS) as interpreter:
        pairs = zip(functions, compiled, strict=True)
        found = [_judge(interpreter, *pair, num, say) for pair in pairs]
        trained = _train_on(interpreter, begun, example, say)
        return English(found, trained, interpreter.peak_bytes)


def _judge(
    interpreter: Interpreter, function: FuzzyFunction, program: Program, num: int, say: Say
) -> Compiled:
    """Judge a program by the cases of its function, and show the first `num`."""
    from .. import Function
    from ..evaluation import judge

    report = judge(Function(interpreter, program), function.cases)
    name = function.name.split("/")[1]
    say(f"\n{click.style(name, bold=True)}\n{cut(function.specs[0])}\n")
    for one in report.judged[:num]:
        say(f"  {cut(one.input)}")
        mark = "✓" if one.correct else f"✗  right is {cut(one.right)}"
        say(f"  → {cut(one.output)} {mark}\n")
    return Compiled(name, program.spec, len(report.judged), report.accuracy)


def _train_on(interpreter: Interpreter, program: Program, place: Path, say: Say) -> TrainedOn:
    """Train a compiled program on from a few cases; judge it before and after."""
    from .. import Function
    from ..evaluation import judge
    from ..interpreter.models.load import load_base
    from ..training.program import train
    from ..training.recipe import Recipe

    cases = read_cases(place / "train.jsonl")[:_CASES]
    judged = read_cases(place / "test.jsonl")[:_JUDGED]
    assert program.adapter is not None
    before = judge(Function(interpreter, program), judged)
    title = click.style(TRAINED_ON, bold=True)
    say(f"\n{title}\n{cut(program.spec)}\n\n  compiled, and now trained on from {_CASES} cases")
    start = time.perf_counter()
    trained = train(
        load_base(interpreter.base.path, trainable=True),
        program.spec,
        cases,
        Recipe(program.adapter.ranks[0], program.adapter.alphas[0], steps=_STEPS, checks=2),
        start_from=program.adapter,
        output=labels_in_spec(program.spec) or TEXT,
    )
    seconds = time.perf_counter() - start
    after = judge(Function(interpreter, trained.program), judged)
    accuracies = before.accuracy, after.accuracy
    return TrainedOn(place.name, len(cases), len(judged), *accuracies, seconds)


def cut(text: str) -> str:
    """Return one line of at most _WIDTH printable characters."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"


def _type(function: FuzzyFunction) -> Labels | None:
    return Labels(function.labels) if function.labels else None
