"""`paw-mlx rm`: remove programs and bases; asks on a terminal, wants --yes elsewhere."""

from __future__ import annotations

import json
import sys

import click

from .. import hub, store
from ..errors import NotFound, OptionError, listed
from . import Command, json_option
from .ls import megabytes


@click.command(cls=Command)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--yes", is_flag=True, help="Remove without asking.")
@json_option
def command(names: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Remove programs (`name`, or one version: `name@v2`) and bases, as `ls` names them."""
    bases = {name: _is_base(name) for name in dict.fromkeys(names)}
    if not yes:
        _ask(list(bases))
    freed = {n: hub.remove_base(n) if base else store.remove(n) for n, base in bases.items()}
    if as_json:
        click.echo(json.dumps({"removed": [{"name": n, "bytes": b} for n, b in freed.items()]}))
        return
    for name, size in freed.items():
        click.echo(f"removed {name}, {megabytes(size)} freed")


def _is_base(name: str) -> bool:
    """Whether a name is a base's; NotFound, before anything is removed, if it is nothing's."""
    if store.is_reference(name):
        try:
            store.find(name)
            return False
        except NotFound:
            pass
    if any(base.name == name for base in hub.installed_bases()):
        return True
    raise NotFound(
        f"neither a program nor a base is called {name!r} here",
        hint="`paw-mlx ls` lists what there is.",
    )


def _ask(names: list[str]) -> None:
    if not sys.stdin.isatty():
        raise OptionError(f"not removing {listed(names)} without being told to", hint="Add --yes.")
    click.confirm(f"Remove {listed(names)}?", abort=True, err=True)
