"""`paw-mlx rollback`: a bare name means an earlier version again; nothing is deleted."""

from __future__ import annotations

import re

import click

from .. import store
from ..errors import OptionError
from .command import Command
from .common import print_json
from .options import json_option
from .references import NAME


class Version(click.ParamType):
    """A version's number, as `2` or `v2`."""

    name = "version"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"v?([1-9]\d{0,8})", value)
        return int(match[1]) if match else self.fail(f"{value!r} is no version such as v2.")


@click.command(cls=Command)
@click.argument("name", type=NAME)
@click.option(
    "--to", type=Version(), metavar="N", help="Make this version current, also a later one."
)
@json_option
def command(name: str, to: int | None, as_json: bool) -> None:
    """Make the version of the program NAME before its current one the current one.

    The bare NAME then means that version; every version stays, as `NAME@vN`. The next version
    that is added is current again.
    """
    bare, _, version = name.partition("@")
    if version and store.is_reference(name):
        raise OptionError(
            f"{name!r} is one version, and only a bare name has a current one",
            hint=f"paw-mlx rollback {bare} --to {version}",
        )
    before = store.current(name)
    now = store.rollback(name, to)
    if as_json:
        print_json({"program": name, "version": now, "previous": before})
    elif now == before:
        click.echo(f"{name} is v{now} already")
    else:
        click.echo(f"{name} is now v{now} (v{before} is kept: {name}@v{before})")
