"""`paw-mlx tune`: a program trained on, and kept only if it is better."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import jobs, kept_cases, store
from ..errors import OptionError, listed
from ..output import Labels
from ..profiles import base_name
from ..words import counted
from .command import Command
from .common import print_json, table
from .options import (
    PATH,
    FiniteRange,
    gate_option,
    interpreter_option,
    json_option,
    offline_option,
)
from .references import NAME
from .specs import check_writable
from .training_line import tell_rows, training_line
from .voice import say, status

if TYPE_CHECKING:
    from ..evaluation import Gate, Report
    from ..interpreter.models.load import Base
    from ..training.tune import Tuned


@click.command(cls=Command)
@click.argument("name", type=NAME)
@click.option(
    "--cases", "cases_file", metavar="FILE", type=PATH,
    help='Rows {"input": …, "output": …} to tune and judge by, instead of those kept with NAME.',
)  # fmt: skip
@click.option(
    "--pairs", "pairs_file", metavar="FILE", type=PATH,
    help="More rows to train on; never judged by.",
)  # fmt: skip
@gate_option
@click.option(
    "--steps", type=click.IntRange(1),
    help="Of each training, at most.  [default: what 120,000 tokens make, up to 240]",
)  # fmt: skip
@click.option(
    "--minutes",
    type=FiniteRange(0, min_open=True),
    help="For all trainings together, at most.",
)
@click.option("--batch-size", default=8, show_default=True, help="Rows a step.")
@click.option("--learning-rate", default=3e-4, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option(
    "-o", "--output", metavar="OUT.paw", type=PATH,
    help="Write what was trained here, too, whether or not it is promoted.",
)  # fmt: skip
@click.option("--background", is_flag=True, help="Leave it to a job: see `paw-mlx jobs`.")
@interpreter_option("Train on this base instead.")
@offline_option
@json_option
def command(
    name: str,
    cases_file: Path | None,
    pairs_file: Path | None,
    gate: Gate | None,
    steps: int | None,
    minutes: float | None,
    batch_size: int,
    learning_rate: float,
    seed: int,
    output: Path | None,
    background: bool,
    interpreter: str | None,
    offline: bool,
    as_json: bool,
) -> None:
    """Train the stored program NAME on by the cases kept with it; promote what is better.

    The new version becomes the current one only if it is right on more cases that neither was
    trained on, measurably not worse (99 % sure that it lost at most 2 points), and passes the
    gate; `paw-mlx rollback NAME` undoes it. Otherwise the old one stays, and why is said.
    """
    version = _check_name(name)
    cases = kept_cases.read_file(cases_file) if cases_file else kept_cases.require(name)
    pairs = kept_cases.read_file(pairs_file) if pairs_file else []
    if output:
        check_writable(output)
    if background:
        _leave(as_json)
        return
    from .. import formats, hub
    from ..interpreter.models.load import load_base
    from ..training.recipe import Recipe
    from ..training.replay import Begun
    from ..training.tune import tune

    job, begun = jobs.current(), Begun(version, cases, pairs)
    if job:
        begun = begun.keep(job.work)
    program = formats.load(store.find(f"{name}@v{begun.version}"))
    reference = interpreter or base_name(program.interpreter)
    path = hub.resolve_base(reference, offline=offline, progress=status)
    base = load_base(path, trainable=True)
    tell = say if job else status
    tuned = tune(
        base,
        program,
        begun.cases,
        begun.pairs,
        Recipe(steps=steps, learning_rate=learning_rate, batch_size=batch_size, seed=seed),
        gate=gate,
        anyway=output is not None,
        folder=job.work if job else None,
        deadline_s=minutes and minutes * 60,
        hear=tell,
        report=training_line(tell),
    )
    stored = _keep(tuned, base, name, begun.version, output)
    if as_json:
        print_json(_record(tuned, name, begun.version, stored, output))
    else:
        _show(tuned, name, begun.version, stored, output)
    if tuned.missed:
        raise click.exceptions.Exit(1)


def _check_name(name: str) -> int:
    """Return the current version of a stored program; OptionError for what is no bare name."""
    if not store.is_name(name):
        raise OptionError(
            f"{name!r} is no name of a stored program, and only that can be tuned",
            hint="Store a file first: paw-mlx pull FILE --as NAME.  Of a version, go on from it "
            "with: paw-mlx rollback NAME --to N.",
        )
    return store.current(name)


def _leave(as_json: bool) -> None:
    job = jobs.start([word for word in sys.argv[1:] if word != "--background"])
    if as_json:
        print_json({"job": job.id, "log": str(job.log)})
    else:
        click.echo(f"{job.id} goes on in the background: see `paw-mlx jobs show {job.id}`")


def _keep(tuned: Tuned, base: Base, name: str, version: int, output: Path | None) -> int | None:
    """Write what was trained, and promote it if that is due; return its version."""
    from .. import formats

    if tuned.program is None:
        return None
    created = datetime.now(UTC).isoformat(timespec="seconds")
    program = replace(tuned.program, meta={**tuned.program.meta, "created_at": created})
    if output:
        formats.save(program, output, dtype=None, profile=base.profile)
    if not tuned.promoted:
        return None
    return store.add(program, name, dtype=None, profile=base.profile, expected=version)


def _record(
    tuned: Tuned, name: str, version: int, stored: int | None, output: Path | None
) -> dict[str, Any]:
    return {
        "program": name,
        "version": stored or version,
        "previous": version,
        "promoted": stored is not None,
        "reason": _reason(tuned),
        "verdict": asdict(tuned.verdict),
        "missed": [one.sentence for one in tuned.missed],
        "accuracy": {"old": _share(tuned.old), "new": _share(tuned.new)},
        "num_seen": tuned.num_seen,
        "num_folds": tuned.num_folds,
        "contradictory": tuned.rows.contradictory,
        "repeated": tuned.rows.repeated,
        "path": output and str(output),
        "seconds": tuned.seconds,
    }


def _share(report: Report | None) -> float | None:
    return report.accuracy if report and report.judged else None


def _reason(tuned: Tuned) -> str:
    if tuned.verdict.promoted and tuned.missed:
        return f"it fails the gate: {listed([one.sentence for one in tuned.missed])}"
    return tuned.verdict.reason


def _show(tuned: Tuned, name: str, version: int, stored: int | None, output: Path | None) -> None:
    tell_rows(tuned.rows)
    if tuned.new:
        how = f"{tuned.num_folds} folds" if tuned.num_folds else "held out"
        head = [f"{counted(len(tuned.new.judged), 'unseen case')} ({how})", "right", "accuracy"]
        rows = [
            [label, f"{report.num_correct:,}", f"{report.accuracy:.1%}"]
            for label, report in ((f"{name}@v{version}", tuned.old), ("tuned", tuned.new))
        ]
        click.echo(table([head, *rows]) + "\n")
    if output:
        click.echo(f"wrote {output}")
    if stored:
        click.echo(f"{name} is now v{stored}: {_reason(tuned)}")
        say(f"`paw-mlx rollback {name}` undoes it")
        output_type = tuned.program and tuned.program.output
        if isinstance(output_type, Labels) and output_type.threshold is not None:
            say(f"its threshold was chosen for v{version}: `paw-mlx calibrate` chooses it anew")
    else:
        click.echo(f"{name} stays v{version}: {_reason(tuned)}")
