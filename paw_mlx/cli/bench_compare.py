"""`paw-mlx bench compare`: two results side by side."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .command import Command
from .common import print_text
from .options import PATH, json_option


def _parse_share(context: click.Context, option: click.Parameter, text: str) -> float:
    """Return `5%` or `5` as 0.05."""
    try:
        share = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise click.BadParameter(f"{text!r} is no percentage from 0% to 100%")
    if 0 < share < 0.01 and "%" not in text:
        said = f"{100 * share:g}"
        raise click.BadParameter(f"{text!r} is a percentage: say {10000 * share:g}% or {said}%")
    return share


@click.command(cls=Command)
@click.argument("before", type=PATH)
@click.argument("after", type=PATH)
@click.option(
    "--threshold",
    default="5%",
    show_default=True,
    callback=_parse_share,
    help="What is no change yet.",
)
@click.option("--fail", is_flag=True, help="Exit with 1 if anything got worse.")
@json_option
def command(before: Path, after: Path, threshold: float, fail: bool, as_json: bool) -> None:
    """Show what changed from one result to the other, and flag what got worse.

    A figure counts as worse if it is beyond the threshold and the spreads do not meet; so
    does what was measured before and not after.
    """
    from ..benchmarks.report import compare, report, tables

    found = compare.compare(report.load(before), report.load(after), threshold)
    print_text(json.dumps(found) if as_json else tables.as_text(compare.table(found)))
    if fail and found["num_worse"]:
        raise click.exceptions.Exit(1)
