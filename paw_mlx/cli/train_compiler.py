"""`paw-mlx train-compiler`: a compiler, from a corpus of fuzzy functions."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..corpus import Division, divide_corpus, read_corpus
from ..words import megabytes
from .command import Command
from .common import print_json, table, written
from .options import PATH, json_option, offline_option
from .specs import read_kinds
from .voice import StatusLine, left, say, status

if TYPE_CHECKING:
    from ..training.compiler import CompilerStep, CompilerTraining
    from ..training.recipe import CompilerRecipe

_JUDGED = 40  # held-out functions, at each check


@click.command(name="train-compiler", cls=Command)
@click.argument("data", nargs=-1, required=True, type=PATH)
@click.option(
    "-o", "--output", required=True, metavar="OUT", type=PATH,
    help="The compiler's folder; what an interrupted run left there is gone on from.",
)  # fmt: skip
@click.option(
    "--preset", type=click.Choice(["embedded", "qwen3-0.6b", "paper"]), default="embedded",
    show_default=True, help="What all other options are, unless given.",
)  # fmt: skip
@click.option("--interpreter", metavar="REF", help="The base that programs will run on.")
@click.option(
    "--encoder", metavar="REF", help="The base that reads specs.  [default: the interpreter]",
)  # fmt: skip
@click.option(
    "--from", "start_from", metavar="COMPILER", help="Go on from this compiler's mapper.",
)  # fmt: skip
@click.option(
    "--hold-out", "held_out", metavar="KIND", multiple=True,
    help="Never train on this kind; a file of kinds as @FILE.",
)  # fmt: skip
@click.option("--fixed", is_flag=True, help="One adapter for every spec: the baseline.")
@click.option("--rank", type=int, help="Of A and B.")
@click.option("--alpha", type=float, help="The delta is alpha/rank · BA.")
@click.option("--bases", type=int, help="That the mapper mixes.")
@click.option("--trunk", type=int, help="Width of the mapper's hidden layer.")
@click.option("--prefix-tokens", type=int, help="Trained tokens after the spec.")
@click.option("--train-encoder", type=click.Choice(["none", "lora"]))
@click.option("--steps", type=int)
@click.option("--batch", type=int, help="Cases a step.")
@click.option("--functions-per-batch", type=int)
@click.option("--learning-rate", type=float)
@click.option("--max-tokens", type=int, help="Of a function and its cases.")
@click.option("--check-every", type=int, help="Steps between checks, and states on disk.")
@click.option("--seed", type=int)
@click.option("--dry-run", is_flag=True, help="Take one step, say what the whole would cost, stop.")
@offline_option
@json_option
def command(
    data: tuple[Path, ...],
    output: Path,
    preset: str,
    interpreter: str | None,
    encoder: str | None,
    start_from: str | None,
    held_out: tuple[str, ...],
    fixed: bool,
    dry_run: bool,
    offline: bool,
    as_json: bool,
    **numbers: Any,
) -> None:
    """Train a compiler on DATA, JSONL files of fuzzy functions or folders of them.

    Of the functions a twentieth is held out, and every kind that --hold-out names. The compiler
    reads a spec with a frozen base and makes a LoRA for the interpreter; interrupted, the same
    command goes on where it stopped, and ends in the same bits.
    """
    division = divide_corpus(read_corpus(data), read_kinds(held_out))
    from ..training.recipe import PRESETS

    chosen = PRESETS[preset]
    given = {name: value for name, value in numbers.items() if value is not None}
    recipe = replace(chosen.recipe, fixed=fixed, **given)
    training = _load(
        division,
        recipe,
        output,
        interpreter or chosen.interpreter,
        encoder or chosen.encoder,
        start_from,
        offline,
    )
    probed = training.probe()
    cost = _Cost(probed.seconds, recipe.steps - training.number, probed.peak_bytes)
    say(_plan(division, training, cost))
    if dry_run:
        if as_json:
            print_json(cost.record())
        return
    start = time.perf_counter()
    training.run(_progress(recipe.steps, training.number))
    size = sum(path.stat().st_size for path in output.iterdir() if path.is_file())
    with written(output):
        _report(training, output, size, time.perf_counter() - start, as_json)


class _Cost:
    """What a run will take, by one step of it."""

    def __init__(self, step_s: float, steps: int, peak_bytes: int) -> None:
        self.seconds, self.step_s, self.peak_bytes = step_s * steps, step_s, peak_bytes

    def record(self) -> dict[str, float]:
        """Return it as data."""
        return vars(self)


def _load(
    division: Division,
    recipe: CompilerRecipe,
    output: Path,
    interpreter: str,
    encoder: str | None,
    start_from: str | None,
    offline: bool,
) -> CompilerTraining:
    from .. import hub
    from ..compiler.base_encoder import SpecReader
    from ..compiler.installed import installed_compiler
    from ..interpreter.models.load import load_base
    from ..training.arrays import read_arrays
    from ..training.compiler import CompilerTraining

    def load(reference: str) -> Any:
        path = hub.resolve_base(reference, offline=offline, progress=status)
        return load_base(path, trainable=True)

    begin = None
    if start_from:
        begin = read_arrays(installed_compiler(start_from, offline=offline, progress=status))
    base = load(interpreter)
    reader = SpecReader(load(encoder) if encoder else base, base.profile.num_layers)
    apart = [*division.unseen, *division.held_kinds]
    judged = apart[:: -(-len(apart) // _JUDGED)] if apart else []
    return CompilerTraining(
        base, reader, division.trained, judged, recipe, output, start_from=begin
    )


def _plan(division: Division, training: CompilerTraining, cost: _Cost) -> str:
    """Say what is about to happen, and what it takes."""
    trained, recipe = division.trained, training.recipe
    kinds = Counter(function.kind for function in trained)
    what = "one adapter for every spec" if recipe.fixed else "a mapper"
    hours, minutes = divmod(round(cost.seconds / 60), 60)
    return (
        f"{what} for {training.trainer.base.profile.name}: {len(trained):,} functions of "
        f"{len(kinds)} kinds; held out are {len(division.unseen)} of these kinds and "
        f"{len(division.held_kinds)} of others\n"
        f"steps {training.number + 1} to {recipe.steps}, {cost.step_s:.1f} s each: about "
        f"{hours} h {minutes:02} min, {cost.peak_bytes / 1e9:.1f} GB"
    )


def _progress(steps: int, before: int) -> Callable[[CompilerStep], None]:
    """Make a line on the terminal that each step renews and each check keeps."""
    start = time.perf_counter()

    def report(step: CompilerStep) -> None:
        line = (
            f"step {step.number}/{steps}  loss {step.loss:.3f}  "
            f"{step.tokens / step.seconds:.0f} tok/s  {step.peak_bytes / 1e9:.1f} GB"
        )
        if checked := step.checked:
            say(f"{line}  held-out loss {checked.loss:.3f}  right {checked.accuracy:.1%}")
        else:
            share = (step.number - before) / (steps - before)
            StatusLine.draw(f"{line}  {left(time.perf_counter() - start, share)}")

    return report


def _report(
    training: CompilerTraining, output: Path, size: int, seconds: float, as_json: bool
) -> None:
    checked = training.last_check
    if as_json:
        record: dict[str, Any] = {"path": str(output), "bytes": size, "seconds": seconds}
        if checked:
            record |= {"accuracy": checked.accuracy, "by_kind": checked.by_kind}
        print_json(record)
        return
    if checked:
        rows = [[kind, f"{share:.0%}"] for kind, share in checked.by_kind.items()]
        click.echo(table([["held-out kind", "right"], *rows]))
    click.echo(f"wrote {output}: {megabytes(size)} in {seconds:.0f} s")
