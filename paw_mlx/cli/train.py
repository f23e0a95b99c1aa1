"""`paw-mlx train`: a program from input/output pairs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..cases import check_outputs, read_cases
from .command import Command
from .common import print_json, written
from .editor import write_text
from .options import (
    PATH,
    FiniteRange,
    adapter_option,
    declare_options,
    gate_option,
    interpreter_option,
    json_option,
    offline_option,
)
from .specs import check_writable, choose_dtype, choose_output, read_text
from .training_line import tell_rows, training_line
from .voice import say, status

if TYPE_CHECKING:
    from ..adapter import Adapter
    from ..evaluation import Gate, Missed
    from ..interpreter.models.load import Base
    from ..output import Output
    from ..program import Program
    from ..training.program import Trained


@click.command(cls=Command)
@click.option(
    "-f", "--spec", "spec_file", required=True, metavar="SPEC.txt",
    type=PATH, help="What the program is to do, in English.",
)  # fmt: skip
@click.option(
    "--examples", required=True, metavar="EXAMPLES.jsonl", type=PATH,
    help='Rows {"input": …, "output": …} to learn from.',
)  # fmt: skip
@click.option(
    "-o", "--output", required=True, metavar="OUT.paw", type=PATH,
    help="The program to write.",
)  # fmt: skip
@declare_options
@interpreter_option(default="smollm2-135m", show_default=True)
@click.option(
    "--from", "start_from", metavar="PROGRAM", help="Go on from this program's adapter.",
)  # fmt: skip
@click.option("--rank", type=int, help="Of A and B.  [default: 32, or that of --from]")
@click.option(
    "--alpha", type=float,
    help="The delta is alpha/rank · BA.  [default: 16, or that of --from]",
)  # fmt: skip
@click.option(
    "--steps", type=click.IntRange(1),
    help="At most.  [default: what 120,000 tokens make, up to 240]",
)  # fmt: skip
@click.option(
    "--minutes", type=FiniteRange(0, min_open=True), help="At most, or about as many.",
)  # fmt: skip
@click.option("--batch-size", default=8, show_default=True, help="Examples a step.")
@click.option("--learning-rate", default=1e-3, show_default=True)
@click.option("--seed", default=0, show_default=True)
@gate_option
@adapter_option
@offline_option
@json_option
def command(
    spec_file: Path,
    examples: Path,
    output: Path,
    declared: Output | None,
    interpreter: str,
    start_from: str | None,
    rank: int | None,
    alpha: float | None,
    steps: int | None,
    minutes: float | None,
    batch_size: int,
    learning_rate: float,
    seed: int,
    gate: Gate | None,
    adapter: str | None,
    offline: bool,
    as_json: bool,
) -> None:
    """Train a program for a frozen base and write it.

    A tenth of the examples of each label is held out; the state that does best on them is kept,
    and what is rare is shown more often. Examples that contradict each other are left out.

    Labels that the spec names ("Return ONLY one of: A, B") are all that the program says, unless
    another type is given. Run again after an interrupt, it goes on. OUT.curve.jsonl has the loss of
    every step. The gate is held against what was held out; OUT is written either way.
    """
    spec, cases = read_text(spec_file), read_cases(examples)
    check_writable(output)
    output_type = choose_output(declared, spec, silent=as_json)
    check_outputs(cases, output_type)
    from .. import hub
    from ..interpreter.models.load import load_base
    from ..training.program import judge_held_out, train
    from ..training.recipe import Recipe
    from ..training.replay import choose_rows

    rows = choose_rows(cases, ())
    tell_rows(rows)
    begin = _load_adapter(start_from, offline) if start_from else None
    if begin and len(begin.ranks) == len(begin.alphas) == 1:
        rank, alpha = rank or begin.ranks[0], alpha or begin.alphas[0]
    recipe = Recipe(rank or 32, alpha or 16.0, steps, learning_rate, batch_size, seed=seed)
    dtype, work = choose_dtype(adapter, recipe.rank), output.with_name(f"{output.name}.training")
    path = hub.resolve_base(interpreter, offline=offline, progress=status)
    base = load_base(path, trainable=True)
    status(f"training on {examples} for {base.profile.name}")
    trained = train(
        base,
        spec,
        rows.cases,
        recipe,
        training_line(status),
        start_from=begin,
        dtype=dtype,
        output=output_type,
        folder=work,
        deadline_s=minutes and minutes * 60,
    )
    program = _save(trained, base, interpreter, output)
    shutil.rmtree(work, ignore_errors=True)
    missed = gate.check(judge_held_out(base, trained)) if gate else []
    with written(output):
        _report(trained, program, output, missed, as_json)
    if missed:
        raise click.exceptions.Exit(1)


def _load_adapter(reference: str, offline: bool) -> Adapter | None:
    from .. import formats, hub

    return formats.load(hub.resolve_program(reference, offline=offline)).adapter


def _save(trained: Trained, base: Base, interpreter: str, output: Path) -> Program:
    """Write the program, and its curve beside it; return it as it was written."""
    from .. import formats

    made_for = base.profile.repo if base.profile.repos else interpreter
    created = datetime.now(UTC).isoformat(timespec="seconds")
    meta = {**trained.program.meta, "created_at": created}
    program = replace(trained.program, interpreter=made_for, meta=meta)
    formats.save(program, output, dtype=None, profile=base.profile)
    curve = "".join(f"{json.dumps(row)}\n" for row in trained.curve)
    write_text(output.with_suffix(".curve.jsonl"), curve)
    return program


def _report(
    trained: Trained, program: Program, output: Path, missed: Sequence[Missed], as_json: bool
) -> None:
    before, after = trained.before, trained.after
    scores = [{"loss": score.loss, "accuracy": score.accuracy} for score in (before, after)]
    if as_json:
        record = {"before": scores[0], "after": scores[1], "seconds": trained.seconds}
        record |= {"program_id": program.id, "path": str(output)}
        record |= {"output": program.output.record(), "best_step": trained.best_step}
        print_json(record | {"steps": len(trained.curve), "missed": [m.sentence for m in missed]})
        return
    click.echo(
        f"held-out accuracy {before.accuracy:.1%} → {after.accuracy:.1%}, "
        f"loss {before.loss:.3f} → {after.loss:.3f} "
        f"(step {trained.best_step} of {len(trained.curve)})\n"
        f"wrote {output}: {output.stat().st_size / 1e6:.1f} MB in {trained.seconds:.0f} s"
    )
    for one in missed:
        say(f"the gate is missed: {one.sentence}")
