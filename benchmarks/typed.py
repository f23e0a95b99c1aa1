"""Typed outputs against free text: what a choice among labels saves, and what a mask costs.

    python -m paw_mlx.benchmarks.typed [--json] [--num 200]

Every ratio compares two ways of doing the same on the same machine in the same run, in turn, warm.
Inputs are the examples' held-out rows. Labels are chosen by the prompt's own last step, so they
save the decoding; a mask and a draft that cannot fail have their price and their gain on JSON.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import click

from paw_mlx import formats, hub, prompts
from paw_mlx.benchmarks.batch import EXAMPLES
from paw_mlx.cases import Case, read_cases
from paw_mlx.errors import OutputError
from paw_mlx.functions import Function
from paw_mlx.interpreter import Interpreter
from paw_mlx.machine import card
from paw_mlx.output import Labels, Regex, Schema
from paw_mlx.program import Program
from paw_mlx.runner import Options, Result

ROUNDS = 3
_LETTER = "Dear team, invoice 4711 of 12 May over 230 EUR is due; please pay Anna Weber by Friday."
_INVOICE = {
    "type": "object",
    "properties": {
        "invoice_number": {"type": "integer"},
        "invoice_date": {"type": "string", "maxLength": 12},
        "currency": {"enum": ["EUR", "USD", "GBP"]},
        "amount_due": {"type": "number"},
        "recipient_name": {"type": "string", "maxLength": 24},
    },
    "required": ["invoice_number", "invoice_date", "currency", "amount_due", "recipient_name"],
    "additionalProperties": False,
}
_ANYTHING = Regex(r"[^\x00]{400,}")  # a mask that is made anew each step and bars little but ends


@click.command()
@click.option("--interpreter", "base", default="smollm2-135m", show_default=True, metavar="REF")
@click.option("--num", default=200, show_default=True, help="Inputs of each example.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def main(base: str, num: int, as_json: bool) -> None:
    """Measure labels and JSON against free text; print the ratios."""
    path = hub.resolve_base(base)
    report: dict[str, Any] = {"num": num, "base": Path(path).name}
    with Interpreter.load(str(path)) as interpreter:
        for name in ("log-triage", "email-triage"):
            program = formats.load(EXAMPLES / name / "program.paw")
            cases = read_cases(EXAMPLES / name / "test.jsonl")
            found = measure_labels(interpreter, program, list(islice(cycle(cases), num)))
            report |= {f"{name}_{key}": value for key, value in found.items()}
        report |= measure_mask(interpreter) | measure_forced(interpreter)
        report |= card()
        report["device"] = interpreter.device
    if as_json:
        click.echo(json.dumps(report))
        return
    for key, value in report.items():
        click.echo(f"{key:<32}{f'{value:.3g}' if isinstance(value, float) else value}")


def measure_labels(
    interpreter: Interpreter, program: Program, cases: Sequence[Case]
) -> dict[str, float]:
    """Measure calls per second and accuracy of free text and of labels, one by one and in batches.

    Ratios are of the sums over ROUNDS rounds, in which the ways take turns.
    """
    labels = tuple(sorted({case.output for case in cases}))
    free = Function(interpreter, program)
    typed = Function(interpreter, replace(program, output=Labels(labels)))
    texts = [case.input for case in cases]
    seconds: dict[str, float] = dict.fromkeys(("free", "typed", "free_one", "typed_one"), 0.0)
    said: dict[str, list[str]] = {}
    for name, fn in (("free", free), ("typed", typed)):
        said[name] = list(fn.map(texts))  # warm
    for _ in range(ROUNDS):
        for name, fn in (("free", free), ("typed", typed)):
            start = time.perf_counter()
            # Inputs that differ, so that none is answered from memory.
            list(fn.map(f"{text} {i}" for i, text in enumerate(texts)))
            between = time.perf_counter()
            for text in texts[:40]:
                fn(text)
            seconds[name] += between - start
            seconds[f"{name}_one"] += time.perf_counter() - between
    right = {
        name: sum(a == case.output for a, case in zip(answers, cases, strict=True)) / len(cases)
        for name, answers in said.items()
    }
    return {
        "free_calls_s": ROUNDS * len(texts) / seconds["free"],
        "labels_calls_s": ROUNDS * len(texts) / seconds["typed"],
        "batch_ratio": seconds["free"] / seconds["typed"],
        "one_by_one_ratio": seconds["free_one"] / seconds["typed_one"],
        "free_accuracy": right["free"],
        "labels_accuracy": right["typed"],
    }


def measure_mask(interpreter: Interpreter) -> dict[str, float]:
    """Time a decoding step under a mask against one without, alone and in a batch of 8 rows."""
    free = _write(interpreter, "Repeat the input, again and again.")
    masked = replace(free, output=_ANYTHING)
    found = {}
    for rows in (1, 8):
        options = Options(max_tokens=64, lookup=False)
        seconds = {"free": 0.0, "masked": 0.0}
        for round_ in range(ROUNDS + 1):
            for name, program in (("free", free), ("masked", masked)):
                spent = _step_seconds(interpreter, program, rows, options)
                seconds[name] += spent if round_ else 0.0  # the first one warms up
        found[f"mask_ratio_{rows}_rows"] = seconds["masked"] / seconds["free"]
    return found


def measure_forced(interpreter: Interpreter) -> dict[str, float]:
    """Count the forward passes of a JSON extraction per pass that one token each would take."""
    program = replace(
        _write(interpreter, "Extract the invoice's fields as JSON."), output=Schema.of(_INVOICE)
    )
    result = interpreter.run(program, _LETTER, Options(lookup=False))
    return {"json_passes_ratio": result.num_steps / result.output_tokens}


def _write(interpreter: Interpreter, task: str) -> Program:
    template = prompts.template(prompts.pseudo_program(task), interpreter.profile.turn)
    return Program(template, None, interpreter.profile.repo)


def _step_seconds(interpreter: Interpreter, program: Program, rows: int, options: Options) -> float:
    """Return seconds per forward pass of rows that decode together, their prompts included."""
    start = time.perf_counter()
    futures = [interpreter.submit(program, f"{_LETTER} {i}", options) for i in range(rows)]
    steps = max(_count_steps(future, options) for future in futures)
    return (time.perf_counter() - start) / steps


def _count_steps(future: Future[Result], options: Options) -> int:
    """Wait for a result, and count its forward passes: its limit, if that cut a masked one."""
    try:
        return future.result().num_steps
    except OutputError:
        assert options.max_tokens
        return options.max_tokens


if __name__ == "__main__":
    main()
