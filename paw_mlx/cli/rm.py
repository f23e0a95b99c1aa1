"""`paw-mlx rm`: remove what is installed; asks on a terminal, wants --yes elsewhere."""

from __future__ import annotations

import sys

import click

from .. import hub, store
from ..errors import NotFound, OptionError, listed
from ..words import counted, megabytes
from .command import Command
from .common import print_json
from .options import json_option
from .references import NAME


@click.command(cls=Command)
@click.argument("names", nargs=-1, required=True, metavar="NAME...", type=NAME)
@click.option("--yes", is_flag=True, help="Remove without asking.")
@json_option
def command(names: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Remove programs (`name`, or one version: `name@v2`), bases and compilers, as `ls` names
    them. The cases kept with a program go with the last of its versions.
    """
    programs = {name: _is_program(name) for name in dict.fromkeys(names)}
    if not yes:
        _ask([_with_cases(n, store.num_cases_lost(n) if p else 0) for n, p in programs.items()])
    removed = {
        name: store.remove(name) if stored else store.Removed(hub.remove(name), 0)
        for name, stored in programs.items()
    }
    if as_json:
        records = [
            {"name": name, "bytes": one.bytes} | ({"num_cases": one.num_cases} if stored else {})
            for (name, stored), one in zip(programs.items(), removed.values(), strict=True)
        ]
        print_json({"removed": records})
        return
    for name, one in removed.items():
        click.echo(f"removed {_with_cases(name, one.num_cases)}, {megabytes(one.bytes)} freed")


def _with_cases(name: str, num_cases: int) -> str:
    return f"{name} and the {counted(num_cases, 'case')} kept with it" if num_cases else name


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
