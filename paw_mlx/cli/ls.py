"""`paw-mlx ls`: the programs, bases and compilers on this machine, with their sizes."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from datetime import datetime

import click

from .. import hub, store
from ..words import megabytes
from .command import Command
from .common import print_json, table
from .options import json_option
from .voice import say


@click.command(cls=Command)
@json_option
def command(as_json: bool) -> None:
    """List the programs, bases and compilers on this machine.

    Of a program's versions, * marks the one that its bare name means; the cases kept with the name
    are counted there.
    """
    programs, models = store.entries(say), hub.installed(say)
    kinds = {f"{kind}s": [m for m in models if m.kind == kind] for kind in ("base", "compiler")}
    if as_json:
        record = {key: [asdict(one) for one in found] for key, found in kinds.items()}
        record["programs"] = [asdict(program) for program in programs]
        print_json(record)
        return
    tables = []
    if programs:
        head = ["PROGRAM", "VERSION", "SIZE", "MODIFIED"]
        with_cases = any(p.num_cases for p in programs)
        rows = [[*head, "CASES"] if with_cases else head]
        several = Counter(p.name for p in programs)
        for p in programs:
            mark = "* " if p.current and several[p.name] > 1 else ""
            modified = f"{datetime.fromtimestamp(p.modified):%Y-%m-%d %H:%M}"
            row = [p.name, f"{mark}v{p.version}", megabytes(p.bytes), modified]
            rows.append([*row, f"{p.num_cases:,}" if p.current else ""] if with_cases else row)
        tables.append(table(rows))
    for key, found in kinds.items():
        if found:
            head = [key.removesuffix("s").upper(), "SIZE", "KEPT BY"]
            tables.append(table([head, *([m.name, megabytes(m.bytes), m.source] for m in found)]))
    if tables:
        click.echo("\n\n".join(tables))
    else:
        say("nothing is installed; `paw-mlx pull smollm2-135m` fetches a small base (98 MB)")
