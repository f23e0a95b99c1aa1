"""`paw-mlx test`: a program against cases."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from ..cases import Case, read_cases
from ..errors import PawError
from . import Command, json_option
from .common import base_options, chosen_base, table

_MOST_LABELS = 12  # a confusion table beyond this tells nobody anything


@dataclass(frozen=True)
class Outcome:
    """A case and what the program made of it; `error` if it could not be run."""

    input: str
    expected: str
    output: str
    error: str | None

    @property
    def passed(self) -> bool:
        return self.error is None and self.output == self.expected.strip()


@click.command(cls=Command)
@click.argument("program")
@click.argument("cases", type=click.Path(path_type=Path))
@click.option(
    "--min-accuracy",
    type=click.FloatRange(0, 1),
    help="Exit with 1 below this accuracy (0 to 1).",
)
@click.option("--max-tokens", type=int, help="Output tokens at most.  [default: 512]")
@json_option
@base_options
def command(
    program: str,
    cases: Path,
    min_accuracy: float | None,
    max_tokens: int | None,
    as_json: bool,
    **base: Any,
) -> None:
    """Run PROGRAM on CASES, a JSONL file of rows {"input": …, "output": …}.

    An output counts if it equals the row's, both stripped.
    """
    rows = read_cases(cases)
    from .. import Options, function

    options = Options(max_tokens)
    fn = function(program, **chosen_base(**base))
    start = time.perf_counter()
    inputs = (case.input for case in rows)
    outputs = fn.map(inputs, on_error="return", max_tokens=options.max_tokens)
    with click.progressbar(
        outputs, length=len(rows), file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:
        outcomes = [_outcome(case, output) for case, output in zip(rows, bar, strict=True)]
    seconds = time.perf_counter() - start
    accuracy = sum(outcome.passed for outcome in outcomes) / len(outcomes)
    if as_json:
        record = {"program_id": fn.program.id, "accuracy": accuracy, "cases": len(outcomes)}
        failures = [asdict(outcome) for outcome in outcomes if not outcome.passed]
        click.echo(json.dumps(record | {"seconds": seconds, "failures": failures}))
    else:
        _show(outcomes, accuracy, seconds)
    if min_accuracy is not None and accuracy < min_accuracy:
        raise click.exceptions.Exit(1)


def _outcome(case: Case, output: str | PawError) -> Outcome:
    if isinstance(output, PawError):
        return Outcome(case.input, case.output, "", str(output))
    return Outcome(case.input, case.output, output, None)


def _show(outcomes: list[Outcome], accuracy: float, seconds: float) -> None:
    failures = [outcome for outcome in outcomes if not outcome.passed]
    for outcome in failures:
        click.echo(f"input     {json.dumps(outcome.input, ensure_ascii=False)}")
        click.echo(f"expected  {json.dumps(outcome.expected, ensure_ascii=False)}")
        got = outcome.error or json.dumps(outcome.output, ensure_ascii=False)
        click.echo(f"{'error' if outcome.error else 'got':<10}{got}\n")
    if failures and len({outcome.expected for outcome in outcomes}) <= _MOST_LABELS:
        click.echo(_confusion(outcomes) + "\n")
    passed = len(outcomes) - len(failures)
    click.echo(f"accuracy {accuracy:.1%} ({passed} of {len(outcomes)}) in {seconds:.1f} s")


def _confusion(outcomes: list[Outcome]) -> str:
    """Rows are what is right, columns what the program said; the rest shares a column."""
    labels = sorted({outcome.expected.strip() for outcome in outcomes})
    said = Counter((o.expected.strip(), o.output if o.output in labels else None) for o in outcomes)
    columns: list[str | None] = [*labels, *([None] if any(c is None for _, c in said) else [])]
    head = ["right \\ said", *("(other)" if column is None else column for column in columns)]
    return table([head, *([label, *(str(said[label, c]) for c in columns)] for label in labels)])
