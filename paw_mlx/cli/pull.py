"""`paw-mlx pull`: fetch a base or a program, once, so that all the rest runs offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .. import hub, kept_cases, store
from ..errors import OptionError
from ..words import counted
from .command import Command
from .common import print_json
from .options import json_option
from .voice import say, status


@click.command(cls=Command)
@click.argument("reference", metavar="REF")
@click.option("--as", "name", metavar="NAME", help="Store the program REF under this name.")
@json_option
def command(reference: str, name: str | None, as_json: bool) -> None:
    """Fetch REF to this machine and print where it lies.

    REF is a base (`smollm2-135m`, `qwen3-0.6b`, `gpt2`, or a hub repo `org/name[@revision]`), a
    published compiler (`paw-4b-qwen3-0.6b`, `paw-4b-gpt2`; it is converted, too), or, with --as,
    a program: a .paw file or folder, a file on the hub
    (`org/name/path/to/file.paw`), or a slug of the PAW service at PAW_API_URL.
    """
    if name is None:
        kind, path = _pull_model(reference)
        _print({kind: reference, "path": str(path)}, as_json)
        return
    store.check_name(name)
    version = store.add(hub.resolve_program(reference, progress=status), name)
    path = store.find(f"{name}@v{version}")
    record = {"program": name, "version": version, "path": str(path)}
    if not as_json:
        num_cases = len(kept_cases.read(name))
        more = f", with {counted(num_cases, 'case')}" if num_cases else ""
        say(f"stored {name}@v{version}{more}")
    _print(record, as_json)


def _print(record: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(record)
    else:
        click.echo(record["path"])


def _pull_model(reference: str) -> tuple[str, Path]:
    """Fetch a base or a compiler; return which of both it is, and where it lies."""
    if reference.endswith(".paw"):
        raise OptionError(
            f"{reference} is a program, and a program needs a name here",
            hint=f"paw-mlx pull {reference} --as NAME",
        )
    if reference not in hub.published_compilers():
        return "base", hub.resolve_base(reference, progress=status)
    from ..compiler.installed import installed_compiler

    return "compiler", installed_compiler(reference, progress=status).folder
