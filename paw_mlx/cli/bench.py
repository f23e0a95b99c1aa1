"""`paw-mlx bench`: the measuring commands, and what they share: their output.

A bench command shows progress with `common.say` or `common.status` (stderr) and ends with
`finish`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ..errors import PawError
from . import LazyGroup
from .common import say

# command -> its module here, bench_<command>; imported only when the command is called.
COMMANDS = {
    "speed": "Tokens and calls per second, memory: base, program, a large model prompted.",
    "accuracy": "How often outputs are right, by method and kind of task.",
    "compile": "Seconds and memory of compiling specs.",
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


@click.group(cls=LazyGroup, lazy=COMMANDS, prefix="bench_")
def command() -> None:
    """Measure speed, memory and accuracy on this machine."""


def finish(report: dict[str, Any], output: Path | None, as_json: bool) -> None:
    """Keep a report in the folder `output`, then print it, as a table or as one line of JSON.

    A run of hours outlives a closed pipe, and a full disk.
    """
    from ..benchmarks import report as reports

    try:
        if output is not None:
            keep(report, output)
    finally:
        click.echo(json.dumps(report) if as_json else reports.terminal(report))


def keep(report: dict[str, Any], folder: Path) -> Path:
    """Write a report's JSON, Markdown and plots into a folder; say which."""
    from ..benchmarks import plots
    from ..benchmarks import report as reports

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
