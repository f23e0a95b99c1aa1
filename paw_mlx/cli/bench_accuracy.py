"""`paw-mlx bench accuracy`: how often outputs are right, by method and kind of task."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import settings
from ..errors import OptionError, listed
from .bench import awake, finish, output_option
from .command import Command
from .options import (
    PATH,
    bits_option,
    compiler_option,
    interpreter_option,
    json_option,
    offline_option,
)
from .voice import say, status

if TYPE_CHECKING:
    from ..benchmarks.accuracy.tasks import Task

_DERIVED = (
    "kinds of output are derived from the outputs; lengths are of inputs: short under 100 "
    "characters, medium under 400"
)
_ALIKE = "; lines of the log that are nearly alike lie in both halves, learned from and tested"


@click.command(cls=Command)
@click.argument("data")
@click.option(
    "--train", metavar="FILE", type=PATH,
    help="Rows for tuned-K to learn from.  [default: the data's own, or half of it]",
)  # fmt: skip
@click.option(
    "--method", "methods", multiple=True, metavar="NAME",
    help="bare, prompted, program, fixed, tuned-K, tuned-all, baseline; again for more.  "
    "[default: all; of several functions none tuned]",
)  # fmt: skip
@click.option("--functions", default=100, show_default=True, help="Drawn from the data at most.")
@click.option("--inputs", type=int, help="Tested of each function at most.  [default: all]")
@click.option("--seed", default=0, show_default=True, help="Of all that is drawn.")
@click.option(
    "--noise", "noises", multiple=True, type=click.Choice(["typos", "paraphrase"]),
    help="Ask again, with noise in the specs.",
)  # fmt: skip
@click.option("--positive", metavar="LABEL", help="Report precision, recall and F1 of this output.")
@interpreter_option(default="qwen3-0.6b", show_default=True)
@bits_option("Quantize the base on load.")
@click.option("--fixed", metavar="PROGRAM", help="Whose LoRA `fixed` runs with.")
@compiler_option
@click.option("--pseudo-compiler", metavar="REF", help="[default: as for `paw-mlx compile`]")
@click.option("--baseline-model", metavar="REF", help="[default: Qwen3-32B in 4 bits]")
@click.option("--steps", default=120, show_default=True, help="Of training, for tuned-K.")
@click.option(
    "--answers", metavar="FILE.jsonl", type=PATH,
    help="Keep every answer there, and go on from those it holds.  [default: in the cache]",
)  # fmt: skip
@offline_option
@output_option
@json_option
def command(
    data: str,
    train: Path | None,
    methods: Sequence[str],
    functions: int,
    inputs: int | None,
    seed: int,
    noises: Sequence[str],
    positive: str | None,
    answers: Path | None,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Ask the functions in DATA by several methods, and count exact matches.

    DATA is `functions`, 60 of them that come along; `fuzzybench` or `fuzzybench/test_clean`;
    `bgl` or `clinc`, in the folder that PAW_MLX_EVAL_DATA names; or a path: a parquet, jsonl or
    csv file of rows spec, input, output, a log as Loghub's, a folder as CLINC's. Compiler and
    baseline have to be on this machine: what cannot run is a row that says why. An interrupted
    run goes on where it was.
    """
    from .. import machine
    from ..benchmarks.accuracy import study, tasks
    from ..benchmarks.accuracy.answers import Answers
    from ..benchmarks.accuracy.methods import NAMES, Lab, check_name, needs_training
    from ..benchmarks.report import report

    start = machine.condition()
    halve = any(needs_training(check_name(name)) for name in methods)
    found = tasks.load(data, train=train, halve=halve, seed=seed, offline=options["offline"])
    if not methods and train is None and len(found) == 1:
        found = tasks.halved(found, seed)
    chosen = tasks.sample(found, functions, inputs, seed)
    _check_positive(positive, chosen)
    if not methods:
        tuned, fixed = len(found) == 1, options["fixed"] is not None
        methods = [n for n in NAMES if tuned or not needs_training(n)]
        methods = [n for n in methods if fixed or n != "fixed"]
    asked, specs = tuple(dict.fromkeys(methods)), (None, *dict.fromkeys(noises))
    asking = study.Study(chosen, asked, specs, positive, seed)
    with awake(), Lab(_options(seed=seed, **options), status) as lab:
        made_with = study.settings(asking, lab)
        path = answers or _kept(made_with)
        with Answers(path, made_with) as kept:
            if not as_json:
                num = len(kept.records)
                say(f"answers in {path}" + (f", {num} so far" if num else ""))
            rows = study.run(asking, lab, kept)
    about = {"source": tasks.source(data), "functions_in_all": len(found), "inputs": inputs}
    about |= {k: v for k, v in made_with.items() if v is not None and k not in study.VERSIONS}
    alike = _ALIKE if any(task.spec == tasks.BGL_SPEC for task in chosen) else ""
    about |= {"positive": positive, "commonest": study.commonest(chosen)}
    about |= {"groups": _DERIVED + alike}
    if len(chosen) > 1:  # rows of one function are not independent, as the intervals have them
        about["clustered"] = len(chosen)
    made = report.make("accuracy", rows, about, synthetic=False, start=start)
    finish(made, output, as_json)
    if all("skipped" in row for row in rows):
        raise click.exceptions.Exit(1)


def _options(baseline_model: str | None, **others: Any) -> Any:
    """The options of methods; what is not given keeps its default."""
    from ..benchmarks.accuracy.methods import StudyOptions

    others["baseline"] = baseline_model
    return StudyOptions(**{key: value for key, value in others.items() if value is not None})


def _check_positive(positive: str | None, tasks: Sequence[Task]) -> None:
    outputs = sorted({output for task in tasks for output in task.outputs})
    if positive is not None and positive not in outputs:
        raise OptionError(f"no output is {positive!r}", hint=f"There are {listed(outputs)}.")


def _kept(made_with: dict[str, Any]) -> Path:
    """Where answers of these settings are kept; other settings, another file."""
    digest = hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()[:16]
    return settings.cache_dir() / "accuracy" / f"{digest}.jsonl"
