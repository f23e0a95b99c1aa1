"""`paw-mlx calibrate`: true probabilities, and when to abstain, from cases."""

from __future__ import annotations

from contextlib import closing, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import formats, hub, kept_cases, store
from ..cases import read_cases
from ..errors import OptionError, listed
from ..output import Labels
from ..profiles import Profile, find_profile
from ..words import counted
from . import reliability
from .command import Command
from .common import print_json, table, written
from .opening import open_function
from .options import PATH, FiniteRange, base_options, json_option, labels_option
from .references import PROGRAM
from .specs import check_writable, read_labels
from .voice import say, status

if TYPE_CHECKING:
    from ..calibration import Calibration, Fit, Threshold
    from ..functions import Function
    from ..program import Program


@click.command(cls=Command)
@click.argument("program", type=PROGRAM)
@click.argument("cases", type=PATH)
@click.option(
    "--max-error", metavar="E", type=FiniteRange(0, 1, min_open=True, max_open=True),
    default=0.02, show_default=True, help="The share of decided calls that may be wrong.",
)  # fmt: skip
@click.option(
    "--confidence", metavar="C", type=FiniteRange(0, 1, min_open=True, max_open=True),
    default=0.9, show_default=True, help="How sure that is, over the draw of CASES.",
)  # fmt: skip
@labels_option
@click.option("--otherwise", metavar="TEXT", help="What is said instead of an unlikely label.")
@click.option(
    "-o", "--output", metavar="OUT.paw", type=PATH, help="Write here, and leave PROGRAM as it is."
)
@click.option("--plot", metavar="FILE", type=PATH, help="Draw it, to .svg or .png (extra bench).")
@json_option
@base_options
def command(
    program: str,
    cases: Path,
    max_error: float,
    confidence: float,
    labels: str | None,
    otherwise: str | None,
    output: Path | None,
    plot: Path | None,
    as_json: bool,
    base: dict[str, Any],
) -> None:
    """Fit PROGRAM's probabilities to CASES, and choose the threshold below which it abstains.

    CASES is a JSONL file of rows {"input": …, "output": …} that PROGRAM was not made from. A file
    or folder is rewritten, a name in the store gets a new version. If no threshold keeps the error
    of decided calls, the exit code is 1: then the temperature alone is kept, or nothing where
    PROGRAM had a threshold.
    """
    rows = read_cases(cases)
    chosen = None if labels is None else read_labels(labels)
    from ..calibration import calibrate

    path = hub.resolve_program(program, offline=base["offline"], progress=status)
    place = _find_place(program, path, output)
    if plot:
        reliability.check_plot(plot)
        check_writable(plot)
    fn = open_function(program, labels=chosen, **base)
    with closing(fn.runner):
        found = calibrate(
            fn,
            rows,
            max_error=max_error,
            confidence=confidence,
            on_case=status.counting(len(rows)),
        )
        where = _keep(fn, found, otherwise, path, place, base)
    if chosen and where["path"]:
        say(f"outputs are one of {listed(chosen, 12)} from now on")
    if plot:
        reliability.plot(found, plot)
    with written(Path(where["path"])) if where["path"] else nullcontext():
        if as_json:
            print_json(_record(fn, found) | where)
        else:
            _show(found, where)
    if found.threshold.value is None:
        raise click.exceptions.Exit(1)


def _find_place(program: str, path: Path, output: Path | None) -> Path | str:
    """Return where the program is to be written: a path, or the name of a stored one.

    OptionError, before the work, for a place where something would be lost.
    """
    if output:
        check_writable(output)
        return output
    if name := store.name_of(path):
        return name
    try:
        if path != Path(program).expanduser() or path.is_symlink():
            raise OptionError(f"{program} is not a file of its own, but {path.resolve()}")
        if formats.check_rewritable(path) == "paw":
            check_writable(path)
    except OptionError as error:
        error.add_note("Name another file to write: -o OUT.paw.")
        raise
    return path


def _keep(
    fn: Function,
    found: Calibration,
    otherwise: str | None,
    source: Path,
    place: Path | str,
    base: dict[str, Any],
) -> dict[str, Any]:
    """Write the program with what was found; return where, and in which words.

    A threshold is not taken away: without a new one, a program that has one stays as it is.
    """
    before = fn.program.output
    assert isinstance(before, Labels)
    if found.threshold.value is None and before.threshold is not None:
        say(f"nothing is written: the threshold {before.threshold:.6g} stays")
        return {"path": None}
    program = replace(fn.program, output=found.apply(before, otherwise))
    profile = find_profile(program.interpreter) or _read_profile(program, base)
    if isinstance(place, str):
        version = store.add(program, place, dtype=None, profile=profile)
        path = store.find(f"{place}@v{version}")
        return {"path": str(path), "name": place, "version": version}
    layout = "directory" if place.is_dir() else None
    program = kept_cases.export(program, source)
    formats.save(program, place, dtype=None, layout=layout, profile=profile)
    return {"path": str(place)}


def _read_profile(program: Program, base: dict[str, Any]) -> Profile:
    """Return the sizes of the base that a program ran on, here or in the daemon."""
    from ..interpreter.base.read import read_source

    reference = base["interpreter"] or program.interpreter
    path = hub.resolve_base(reference, offline=base["offline"], progress=status)
    return Profile.from_config(read_source(path).config)


def _record(fn: Function, found: Calibration) -> dict[str, Any]:
    fit, threshold, decisions = found.fit, found.threshold, found.report.decisions
    assert decisions
    pairs: dict[str, Any] = {
        "log_loss": fit.log_loss,
        "calibration_error": fit.calibration_error,
        "bins": fit.bins and [[one._asdict() for one in bins] for bins in fit.bins],
    }
    told = {
        name: pair and dict(zip(("before", "after"), pair, strict=True))
        for name, pair in pairs.items()
    }
    return {
        "program_id": fn.program.id,
        "labels": list(decisions.pairs[0][0].probabilities),
        "temperature": fit.temperature,
        "fit": {"num_cases": fit.num_cases, "reason": fit.reason} | told,
        "threshold": threshold.value,
        "promise": asdict(threshold) | {"coverage": threshold.coverage},
        "num_failed": found.report.num_failed,
        "num_strange": found.num_strange,
        "seconds": found.report.seconds,
    }


def _show(found: Calibration, where: dict[str, Any]) -> None:
    if found.report.num_failed:
        say(f"{counted(found.report.num_failed, 'case')} could not be run, and are left out")
    if found.num_strange:
        say(f"{counted(found.num_strange, 'case')} with an output that is no label count as wrong")
    _show_fit(found.fit)
    _show_threshold(found.threshold)
    if "name" in where:
        click.echo(f"stored {where['name']}@v{where['version']}; earlier versions are kept")
    elif where["path"]:
        click.echo(f"wrote {where['path']}")


def _show_fit(fit: Fit) -> None:
    cases = counted(fit.num_cases, "case")
    if fit.bins and fit.log_loss and fit.calibration_error:
        head = [f"{cases}, each by the others", "before", "after"]
        losses = [f"{loss:.4f}" for loss in fit.log_loss]
        errors = [f"{error:.1%}" for error in fit.calibration_error]
        click.echo(table([head, ["log loss", *losses], ["calibration error", *errors]]) + "\n")
        kept = fit.bins[fit.temperature != 1]
        click.echo(reliability.draw_bins(kept) + "\n")
    reason = f": {fit.reason}" if fit.reason else f", fitted on {cases}"
    click.echo(f"temperature {fit.temperature:.4g}{reason}")


def _show_threshold(found: Threshold) -> None:
    if found.value is None:
        say(f"no threshold: {found.reason}")
        return
    cases = f"{found.num_decided:,} of {counted(found.num_cases, 'case')}"
    click.echo(
        f"threshold {found.value:.6g}: {cases} decided ({found.coverage:.1%}), "
        f"{found.num_wrong:,} of them wrong\n"
        f"of what it decides of inputs like these, at most {found.max_error * 100:.3g}% is wrong "
        f"(confidence {found.confidence * 100:.3g}%)"
    )
