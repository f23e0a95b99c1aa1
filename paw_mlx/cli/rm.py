"""`paw-mlx rm`: remove what is installed; asks on a terminal, wants --yes elsewhere."""

from __future__ import annotations

import sys

import click

from .. import hub, store
from ..errors import NotFound, OptionError, listed
from ..words import megabytes
from .command import Command
from .common import print_json
from .options import json_option


@click.command(cls=Command)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--yes", is_flag=True, help="Remove without asking.")
@json_option
def command(names: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Remove programs (`name`, or one version: `name@v2`), bases and compilers, as `ls` names
    them."""
    programs = {name: _is_program(name) for name in dict.fromkeys(names)}
    if not yes:
        _ask(list(programs))
    freed = {n: store.remove(n) if stored else hub.remove(n) for n, stored in programs.items()}
    if as_json:
        print_json({"removed": [{"name": n, "bytes": b} for n, b in freed.items()]})
        return
    for name, size in freed.items():
        click.echo(f"removed {name}, {megabytes(size)} freed")


def _is_program(name: str) -> bool:
    """Return whether a name is a program's; NotFound, before anything is removed, if nothing's."""
    if store.is_reference(name):
        try:
            store.find(name)
            return True
        except NotFound:
            pass
    if any(one.name == name for one in hub.installed()):
        return False
    raise NotFound(
        f"no program, base or compiler is called {name!r} here",
        hint="`paw-mlx ls` lists what there is.",
    )


def _ask(names: list[str]) -> None:
    if not sys.stdin.isatty():
        raise OptionError(f"not removing {listed(names)} without being told to", hint="Add --yes.")
    click.confirm(f"Remove {listed(names)}?", abort=True, err=True)
