"""`paw-mlx ls`: the programs, bases and compilers on this machine, with their sizes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from datetime import datetime

import click

from .. import hub, store
from . import Command, json_option
from .common import say, table


@click.command(cls=Command)
@json_option
def command(as_json: bool) -> None:
    """List the programs, bases and compilers on this machine.

    Of a program's versions, * marks the one that its bare name means.
    """
    programs, models = store.entries(), hub.installed()
    kinds = {f"{kind}s": [m for m in models if m.kind == kind] for kind in ("base", "compiler")}
    if as_json:
        record = {key: [asdict(one) for one in found] for key, found in kinds.items()}
        record["programs"] = [asdict(program) for program in programs]
        click.echo(json.dumps(record, default=str))
        return
    tables = []
    if programs:
        rows = [["PROGRAM", "VERSION", "SIZE", "MODIFIED"]]
        several = Counter(p.name for p in programs)
        for p in programs:
            mark = "* " if p.current and several[p.name] > 1 else ""
            rows.append([p.name, f"{mark}v{p.version}", megabytes(p.bytes), _date(p.modified)])
        tables.append(table(rows))
    for key, found in kinds.items():
        if found:
            rows = [[key.removesuffix("s").upper(), "SIZE", "KEPT BY"]]
            tables.append(table(rows + [[m.name, megabytes(m.bytes), m.source] for m in found]))
    if tables:
        click.echo("\n\n".join(tables))
    else:
        say("nothing is installed; `paw-mlx pull smollm2-135m` fetches a small base (98 MB)")


def megabytes(size: int) -> str:
    """A size for people: `22.7 MB`, at least `0.1 MB` for what is not empty."""
    return f"{max(size / 1e6, 0.1 if size else 0):,.1f} MB"


def _date(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"
