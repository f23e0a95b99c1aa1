"""Candidates: several programs of one spec, of which the best is kept.

    divide    cases are to choose by, or to report on; never both
    write     pseudo-programs: the plain one first, then others, no two alike
    compile   a few at a time; each waits on disk, as it would be stored
    choose    by the cases to choose by, or without any by agreement
    report    the chosen one, on the rest

A recompile may differ from the last by chance alone; the best of several differs less. A candidate
has to be better than those before it: between equals the first is kept, and with few cases a
difference counts only where McNemar's exact test tells it from chance.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import formats
from ..cases import Case
from ..errors import CompileError
from ..evaluation import Report, judge
from ..files import scratch
from ..interpreter.interpreter import Interpreter
from ..output import Labels
from ..program import Program
from ..progress import Progress, quiet
from .choosing import Parts, choose_program, divide_cases
from .compilation import Compilation
from .pipeline import Compiler
from .wordings import Draw
from .writer import SpecWriter

_TOGETHER = 4  # compiled at a time, which bounds the adapters in memory
_TRIES = 3  # draws for each candidate, since some repeat an earlier one
_MOST_INPUTS = 64
_INPUT = re.compile(r"^Input: *(\S.*)$", re.MULTILINE)


@dataclass(eq=False)
class Candidate:
    """One candidate: its compilation, and in a few words how it was written.

    `score` is its accuracy on the cases to choose by, or its agreement, 0 to 1; None for one that
    could not be compiled, or was not compared.
    """

    compilation: Compilation
    written: str
    score: float | None = None

    def record(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        told = {"written": self.written, "score": self.score}
        error = self.compilation.error
        return told | ({"error": str(error)} if error else {})


@dataclass(frozen=True)
class Choice:
    """The candidates of a spec, in their order, and the one that was `chosen`.

    `by` says what by: `cases`, `agreement` on inputs, or `nothing`, and `num_judged` by how many.
    `report` is the chosen one's on the rest of the cases, None where there are none.
    """

    candidates: Sequence[Candidate]
    chosen: Candidate
    by: str
    num_judged: int
    report: Report | None

    @property
    def number(self) -> int:
        """The place of the chosen one, from 1."""
        return self.candidates.index(self.chosen) + 1

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest score, 0 to 1."""
        scores = [one.score for one in self.candidates if one.score is not None]
        return min(scores), max(scores)

    def record(self) -> dict[str, Any]:
        """Return it as JSON and a program's meta have it."""
        told: dict[str, Any] = {"n": len(self.candidates), "chosen": self.number, "by": self.by}
        told |= {"num_judged": self.num_judged, "seed": self.chosen.compilation.draw.seed}
        told |= {"candidates": [one.record() for one in self.candidates]}
        if report := self.report:
            accuracy = {"accuracy": report.accuracy, "interval": report.interval}
            told["rest"] = {"num_cases": len(report.judged)} | accuracy
        return told


def choose(
    compiler: Compiler,
    wanted: Compilation,
    num: int,
    *,
    cases: Sequence[Case] = (),
    seed: int = 0,
    dtype: str = "auto",
    report: Progress = quiet,
) -> Choice:
    """Compile `num` candidates of a spec and choose the best, A and B stored as `dtype`.

    A single one is compiled as always, and reported on all cases. The program carries the record
    of the choice in its meta. Raises OptionError for too few cases, and what compiling raises where
    no candidate compiles.
    """
    parts = Parts([], [], list(cases))
    if num > 1 and cases:
        parts = divide_cases(cases, seed, shown=isinstance(compiler.writer, SpecWriter))
    found = _write(compiler, wanted, num, Draw(0, seed, shots=tuple(parts.shots)), report)
    inputs = [] if cases else _find_inputs(found)
    if not (cases or inputs):
        del found[1:]  # nothing tells them apart
    if len(found) == 1:
        parts, inputs = Parts([], [], list(cases)), []
    with scratch() as folder:
        sound = _compile(compiler, found, folder, dtype, report)
        chosen, told = sound[0], None
        if parts.rest or inputs:
            with Interpreter.load(str(compiler.target.path)) as runner:
                if parts.choosing or inputs:
                    chosen = _choose(runner, sound, parts.choosing, inputs, report)
                if parts.rest:
                    told = judge(runner.function(_program(chosen)), parts.rest)
    by = "cases" if parts.choosing else "agreement" if inputs else "nothing"
    choice = Choice(found, chosen, by, len(parts.choosing or inputs), told)
    program = _program(chosen)
    record = {**program.meta["paw_mlx"], "candidates": choice.record()}
    chosen.compilation.program = replace(program, meta={**program.meta, "paw_mlx": record})
    return choice


def _write(
    compiler: Compiler, wanted: Compilation, num: int, draw: Draw, report: Progress
) -> list[Candidate]:
    """Write the pseudo-programs, no two alike; fewer than `num` where no others come."""
    if isinstance(wanted.output, Labels):
        draw = replace(draw, labels=wanted.output.labels)
    found: list[Candidate] = []
    for number in range(num if num == 1 else _TRIES * num):
        own = replace(draw, number=number)
        each = wanted if num == 1 else Compilation(wanted.spec, output=wanted.output)
        each.draw = own
        how = compiler.writer.describe(own, each.spec)
        report(f"candidate {len(found) + 1} of {num}: {how}")
        try:
            compiler.write(each)
        except CompileError as error:
            each.error = error
        known = [one.compilation.pseudo_program for one in found]
        if each.error or each.pseudo_program not in known:
            found.append(Candidate(each, how))
        if len(found) == num:
            break
    return found


def _find_inputs(found: Sequence[Candidate]) -> list[str]:
    """Return the inputs of the examples in the spec and in all pseudo-programs."""
    texts = [found[0].compilation.spec, *(one.compilation.pseudo_program or "" for one in found)]
    inputs = [text.strip() for each in texts for text in _INPUT.findall(each)]
    return list(dict.fromkeys(inputs))[:_MOST_INPUTS]


def _compile(
    compiler: Compiler, found: Sequence[Candidate], folder: Path, dtype: str, report: Progress
) -> list[Candidate]:
    """Compile the candidates, each as it would be stored, and return those that were."""
    started = [one for one in found if one.compilation.error is None]
    profile = compiler.target.profile
    for start in range(0, len(started), _TOGETHER):
        group = started[start : start + _TOGETHER]
        report(f"compiling candidates {start + 1} to {start + len(group)} of {len(started)}")
        for number, each in enumerate(compiler.compile_all([one.compilation for one in group])):
            if each.program:
                path = folder / f"{start + number}.paw"
                formats.save(each.program, path, dtype, profile=profile)
                each.program = formats.load(path, profile)
    sound = [one for one in started if one.compilation.program]
    if not sound:
        error = found[0].compilation.error
        assert error is not None
        raise error
    return sound


def _choose(
    runner: Interpreter,
    sound: Sequence[Candidate],
    cases: Sequence[Case],
    inputs: Sequence[str],
    report: Progress,
) -> Candidate:
    """Give each candidate its score, and return the best."""
    programs = [_program(one) for one in sound]
    place, scores = choose_program(runner, programs, cases, inputs, report)
    for one, score in zip(sound, scores, strict=True):
        one.score = score
    return sound[place]


def _program(candidate: Candidate) -> Program:
    program = candidate.compilation.program
    assert program is not None
    return program
