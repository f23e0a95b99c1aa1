"""What `paw-mlx compile` does with --candidates, --cases and --gate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import kept_cases, store
from ..cases import Case, check_cases, check_outputs, read_cases
from ..errors import CompileError
from ..output import Labels
from ..words import counted
from .common import print_json, table
from .options import PATH, add_options, gate_option
from .voice import say, status

if TYPE_CHECKING:
    from ..compiler.candidates import Choice
    from ..compiler.compilation import Compilation
    from ..compiler.pipeline import Compiler
    from ..evaluation import Gate, Report

_MOST = 16


@dataclass
class Trial:
    """What was asked of candidates, and as `record`, as JSON has it, what came of it."""

    num: int
    cases_file: Path | None
    gate: Gate | None
    seed: int
    cases: list[Case] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)

    def read(self, name: str | None, wanted: Compilation, *, held_out: bool = False) -> None:
        """Read the cases: those given, or those kept with a name; errors, before the work.

        A gate takes some, unless something is `held_out` to judge by.
        """
        if self.cases_file:
            self.cases = read_cases(self.cases_file)
        elif name and any(entry.name == name for entry in store.entries()):
            self.cases = kept_cases.read(name)
        check_cases(self.cases)
        assert wanted.output
        check_outputs(self.cases, wanted.output)
        if self.gate and not (self.cases or held_out):
            raise click.UsageError("--gate takes cases: give --cases FILE, or keep some with NAME")
        if self.gate and (isinstance(wanted.output, Labels) or not held_out):
            self.gate.check_labels(wanted.output, self.cases)

    def compile(
        self, compiler: Compiler, wanted: Compilation, dtype: str, as_json: bool
    ) -> Compilation:
        """Compile the candidates and return the chosen one; exit with 1 if it misses the gate."""
        from ..compiler.candidates import choose

        try:
            choice = choose(
                compiler,
                wanted,
                self.num,
                cases=self.cases,
                seed=self.seed,
                dtype=dtype,
                report=status,
            )
        except CompileError as error:
            wanted.error = error
            return wanted
        self.record = choice.record()
        if not as_json:
            _show(choice, self.num)
        if self.gate and choice.report:
            self.record["gate"] = self.gate.record(choice.report)
            told = {"candidates": self.record} if as_json else None
            hold(self.gate, choice.report, told, "nothing is written")
        return choice.chosen.compilation


def hold(gate: Gate, report: Report, told: dict[str, Any] | None, end: str) -> None:
    """Exit with 1 if a report misses a gate: print `told` as JSON, or say why, and then `end`."""
    missed = gate.check(report)
    if not missed:
        return
    if told:
        print_json(told)
    else:
        for one in missed:
            say(f"the gate is missed: {one.sentence}")
        say(end)
    raise click.exceptions.Exit(1)


def candidate_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --candidates, --cases, --gate and --seed; the command gets `trial`, None without any."""

    @wraps(command)
    def run(
        candidates: int, cases_file: Path | None, gate: Gate | None, seed: int, **others: Any
    ) -> Any:
        asked = candidates > 1 or cases_file or gate
        trial = Trial(candidates, cases_file, gate, seed) if asked else None
        return command(trial=trial, **others)

    return add_options(
        run,
        click.option(
            "--candidates",
            metavar="N",
            type=click.IntRange(1, _MOST),
            default=1,
            show_default=True,
            help="Compile so many, and keep the one that half of the cases find best.",
        ),
        click.option(
            "--cases",
            "cases_file",
            metavar="FILE",
            type=PATH,
            help='Rows {"input": …, "output": …} to choose and judge by.  [default: those kept '
            "with NAME]",
        ),
        gate_option,
        click.option("--seed", default=0, show_default=True, help="Of what candidates vary by."),
    )


def _show(choice: Choice, num_wanted: int) -> None:
    """Say how the candidates fared, which was chosen, and what it does on the other cases."""
    found = choice.candidates
    if choice.by != "nothing":
        of = f"right of {choice.num_judged}" if choice.by == "cases" else "agrees"
        rows = [
            [f"{number:<2} {one.written}", "-" if one.score is None else f"{one.score:.1%}"]
            for number, one in enumerate(found, 1)
        ]
        say(table([["candidate", of], *rows]))
        for number, one in enumerate(found, 1):
            if error := one.compilation.error:
                say(f"candidate {number} is left out: {error}")
    if len(found) < num_wanted:
        say(f"{counted(len(found), 'candidate')} of {num_wanted}: no others are told apart")
    if choice.by == "agreement":
        share = f"{choice.chosen.score:.0%}"
        inputs = counted(choice.num_judged, "input")
        say(f"no cases: candidate {choice.number} chosen by agreement on {inputs}, {share}")
    if choice.by == "cases":
        low, high = choice.spread
        cases = counted(choice.num_judged, "case")
        said = (
            f"candidate {choice.number} chosen by {cases}; all get {low:.1%} to {high:.1%} of them"
        )
        kept = choice.chosen.score != high
        say(f"{said}; a later one is not better beyond chance" if kept else said)
    if report := choice.report:
        low, high = report.interval
        other = "other " if choice.by == "cases" else ""
        say(
            f"on {len(report.judged):,} {other}cases: accuracy {report.accuracy:.1%} "
            f"(95 % interval {low:.1%} to {high:.1%})"
        )
