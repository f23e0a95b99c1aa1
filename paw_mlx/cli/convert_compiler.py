"""`paw-mlx convert-compiler`: a published compiler, made ready for this machine."""

from __future__ import annotations

import time
from pathlib import Path

import click

from ..words import megabytes
from .command import Command
from .common import print_json, written
from .options import BITS, PATH, bits_option, json_option, offline_option
from .voice import status


@click.command(name="convert-compiler", cls=Command)
@click.argument("reference", metavar="REPO_OR_DIR")
@click.argument("out", type=PATH)
@bits_option(
    "Of the encoder's layers; 16 keeps them as published.", (*BITS, 32),
    default=8, show_default=True,
)  # fmt: skip
@offline_option
@json_option
def command(reference: str, out: Path, bits: int, offline: bool, as_json: bool) -> None:
    """Convert the published compiler REPO_OR_DIR into the new folder OUT.

    The encoder is quantized and laid out by layer, the mapper leaves its pickle; nothing in it
    is executed. Interrupted, the same command goes on where it stopped.
    """
    from .. import hub
    from ..convert.checkpoint import convert_compiler

    source = hub.resolve_compiler(reference, offline=offline, progress=status)
    start = time.perf_counter()
    made = convert_compiler(source, out, bits=bits, progress=status)
    seconds = time.perf_counter() - start
    size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
    with written(out):
        if as_json:
            print_json({"path": str(made), "bits": bits, "bytes": size, "seconds": seconds})
        else:
            click.echo(f"wrote {made}: {megabytes(size)} in {seconds:.0f} s")
