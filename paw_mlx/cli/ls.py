"""`paw-mlx ls`: the programs and bases on this machine, with their sizes."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime

import click

from .. import hub, store
from . import Command, json_option
from .common import say, table


@click.command(cls=Command)
@json_option
def command(as_json: bool) -> None:
    """List the programs and bases on this machine."""
    programs, bases = store.entries(), hub.installed_bases()
    if as_json:
        record = {"programs": [asdict(p) for p in programs], "bases": [asdict(b) for b in bases]}
        click.echo(json.dumps(record, default=str))
        return
    tables = []
    if programs:
        rows = [["PROGRAM", "VERSION", "SIZE", "MODIFIED"]]
        rows += [[p.name, f"v{p.version}", megabytes(p.bytes), _date(p.modified)] for p in programs]
        tables.append(table(rows))
    if bases:
        rows = [["BASE", "SIZE", "KEPT BY"]]
        tables.append(table(rows + [[b.name, megabytes(b.bytes), b.source] for b in bases]))
    if tables:
        click.echo("\n\n".join(tables))
    else:
        say("nothing is installed; `paw-mlx pull smollm2-135m` fetches a small base (98 MB)")


def megabytes(size: int) -> str:
    """A size for people: `22.7 MB`, at least `0.1 MB` for what is not empty."""
    return f"{max(size / 1e6, 0.1 if size else 0):,.1f} MB"


def _date(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"
