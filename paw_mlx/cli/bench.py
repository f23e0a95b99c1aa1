"""`paw-mlx bench`: the measuring commands, and what they share: their output.

A bench command shows progress with `common.say` or `common.status` (stderr) and fills the rows
of `measured`, or ends with `finish`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ..errors import PawError
from .command import Failure, LazyGroup
from .common import print_text
from .voice import say

# command -> its module here, bench_<command>; imported only when the command is called.
COMMANDS = {
    "speed": "Tokens and calls per second, memory: base, program, a large model prompted.",
    "accuracy": "How often outputs are right, by method and kind of task.",
    "compile": "Seconds and memory of compiling specs.",
    "compile-quality": "How good compiled programs are, by kind: bare, fixed, compiled, tuned.",
    "versus": "The same base and adapter under mlx-lm and llama.cpp, in turn.",
    "compare": "Two results side by side; find what got slower.",
    "reproduce": "The paper's figures beside those measured here.",
}

output_option = click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Write JSON, Markdown and plots there, too.",
)

program_option = click.option(
    "--program", metavar="PROGRAM", help="[default: one made up, of rank 64]"
)

_PRINTED = "paw_mlx.bench.printed"


class _Group(LazyGroup):
    """Once a report is printed, an error goes to stderr: stdout carries one JSON object."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Failure as failure:
            failure.among_rows |= _PRINTED in ctx.meta
            raise


@click.group(cls=_Group, lazy=COMMANDS, prefix="bench_")
def command() -> None:
    """Measure speed, memory and accuracy on this machine."""


@contextmanager
def measured(
    kind: str,
    settings: dict[str, Any],
    output: Path | None,
    as_json: bool,
    *,
    synthetic: bool = False,
) -> Iterator[list[dict[str, Any]]]:
    """Fill rows as they come; their report is finished at the end. A Mac stays awake.

    Where an interrupt or an error cuts the run short, what was measured until then is
    finished as a report that says so under `partial`, before that is raised.
    """
    from .. import machine
    from ..benchmarks.report import report

    start, rows = machine.condition(), list[dict[str, Any]]()

    def end(about: dict[str, Any]) -> None:
        made = report.make(kind, rows, about, synthetic=synthetic, start=start)
        finish(made, output, as_json)

    try:
        with awake():
            yield rows
    except BaseException as error:
        if any(not (row.get("skipped") or row.get("error")) for row in rows):
            why = report.reason(error) if isinstance(error, Exception) else "it was interrupted"
            end(settings | {"partial": why})
        raise
    end(settings)


@contextmanager
def awake() -> Iterator[None]:
    """Keep a Mac awake: a run takes minutes to hours."""
    from ..benchmarks.speed import worker

    process = worker.keep_awake(os.getpid())
    try:
        yield
    finally:
        if process:
            process.terminate()
            process.wait()


def finish(report: dict[str, Any], output: Path | None, as_json: bool) -> None:
    """Keep a report in the folder `output`, then print it, as a table or as one line of JSON.

    A run of hours outlives a closed pipe, and a full disk. An error after printing goes to
    stderr.
    """
    from ..benchmarks.report.report import terminal

    try:
        if output is not None:
            keep(report, output)
    finally:
        print_text(json.dumps(report) if as_json else terminal(report))
        if context := click.get_current_context(silent=True):
            context.meta[_PRINTED] = True


def keep(report: dict[str, Any], folder: Path) -> Path:
    """Write a report's JSON, Markdown and plots into a folder; say which."""
    from ..benchmarks.report import plots
    from ..benchmarks.report import report as reports

    path = reports.save(report, folder)
    reports.write(path.with_suffix(".md"), reports.markdown(report))
    say(f"wrote {path} and {path.with_suffix('.md').name}")
    try:
        drawn = plots.draw(report, path.with_suffix(""))
    except PawError as error:  # a report is worth keeping without its plots
        say(" ".join([f"no plots: {error}.", *error.hints]))
    else:
        for plot in drawn:
            say(f"drew {plot}")
    return path
