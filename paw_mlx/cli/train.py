"""`paw-mlx train`: a program from input/output pairs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..cases import check_outputs, read_cases
from .command import Command
from .common import hear, print_json, written
from .options import (
    PATH,
    adapter_option,
    declare_options,
    interpreter_option,
    json_option,
    offline_option,
)
from .specs import check_writable, choose_dtype, choose_output, read_text
from .voice import StatusLine, left, say, status

if TYPE_CHECKING:
    from ..adapter import Adapter
    from ..output import Output
    from ..program import Program
    from ..training.loop import TrainingStep
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
@click.option("--steps", default=120, show_default=True)
@click.option("--batch-size", default=8, show_default=True, help="Examples a step.")
@click.option("--learning-rate", default=1e-3, show_default=True)
@click.option("--seed", default=0, show_default=True)
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
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    adapter: str | None,
    offline: bool,
    as_json: bool,
) -> None:
    """Train a program for a frozen base and write it.

    A tenth of the examples is held out; the state that does best on them is kept. Labels that
    the spec names ("Return ONLY one of: A, B") are all that the program says, unless another
    type is given.
    """
    spec, cases = read_text(spec_file), read_cases(examples)
    check_writable(output)
    output_type = choose_output(declared, spec, silent=as_json)
    check_outputs(cases, output_type)
    from .. import formats, hub
    from ..interpreter.models.load import load_base
    from ..training.program import doubt, train
    from ..training.recipe import Recipe

    begin = _load_adapter(start_from, offline) if start_from else None
    if begin and len(begin.ranks) == len(begin.alphas) == 1:
        rank, alpha = rank or begin.ranks[0], alpha or begin.alphas[0]
    recipe = Recipe(rank or 32, alpha or 16.0, steps, learning_rate, batch_size, seed=seed)
    dtype = choose_dtype(adapter, recipe.rank)
    path = hub.resolve_base(interpreter, offline=offline, progress=status)
    base = load_base(path, trainable=True)
    if reason := doubt(cases):
        hear(click.get_current_context(), reason)
        say(f"warning: {reason}")
    status(f"training on {examples} for {base.profile.name}")
    trained = train(
        base,
        spec,
        cases,
        recipe,
        _progress(steps),
        start_from=begin,
        dtype=dtype,
        output=output_type,
    )
    made_for = base.profile.repo if base.profile.repos else interpreter
    created = datetime.now(UTC).isoformat(timespec="seconds")
    meta = {**trained.program.meta, "created_at": created}
    program = replace(trained.program, interpreter=made_for, meta=meta)
    formats.save(program, output, dtype=None, profile=base.profile)
    with written(output):
        _report(trained, program, output, as_json)


def _load_adapter(reference: str, offline: bool) -> Adapter | None:
    from .. import formats, hub

    return formats.load(hub.resolve_program(reference, offline=offline)).adapter


def _report(trained: Trained, program: Program, output: Path, as_json: bool) -> None:
    before, after = trained.before, trained.after
    if as_json:
        record = {"before": asdict(before), "after": asdict(after), "seconds": trained.seconds}
        record |= {"program_id": program.id, "path": str(output)}
        record |= {"output": program.output.record()}
        print_json(record | {"best_step": trained.best_step})
        return
    click.echo(
        f"held-out accuracy {before.accuracy:.1%} → {after.accuracy:.1%}, "
        f"loss {before.loss:.3f} → {after.loss:.3f} (step {trained.best_step})\n"
        f"wrote {output}: {output.stat().st_size / 1e6:.1f} MB in {trained.seconds:.0f} s"
    )


def _progress(steps: int) -> Callable[[TrainingStep], None]:
    """Make a line on the terminal that each step renews and each check keeps."""
    start = time.perf_counter()

    def report(step: TrainingStep) -> None:
        line = f"step {step.number}/{steps}  loss {step.loss:.3f}"
        if step.held_out_loss is not None:
            status(f"{line}  held-out loss {step.held_out_loss:.3f}")
        else:
            share = step.number / steps
            StatusLine.draw(f"{line}  {left(time.perf_counter() - start, share)}")

    return report
