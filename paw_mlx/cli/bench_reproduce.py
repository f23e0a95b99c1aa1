"""`paw-mlx bench reproduce`: the paper's table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from .bench import finish, output_option
from .command import Command
from .options import PATH, json_option
from .voice import say


@click.command(cls=Command)
@click.argument("results", nargs=-1, type=PATH)
@output_option
@json_option
def command(results: Sequence[Path], output: Path | None, as_json: bool) -> None:
    """Show the paper's figures beside those in RESULTS, files or folders of `bench … -o`.

    Without RESULTS: those that came with the source, and those in ./results. The newest
    result that has a figure gives it, one of --quick if there is no other; where none has,
    the row says what measures it.
    """
    from .. import machine
    from ..benchmarks.report import report, reproduce

    start = machine.condition()
    places = results or reproduce.places()
    found = reproduce.gather(places)
    say(f"{len(found)} results in {', '.join(map(str, places))}")
    if not found:
        say("`paw-mlx bench speed -o results` writes one")
    rows = reproduce.claims(found)
    settings = {"results": len(found)}
    made = report.make("reproduce", rows, settings, synthetic=False, start=start)  # rows say so
    finish(made, output, as_json)
