"""`paw-mlx convert-compiler`: a published compiler, made ready for this machine."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from . import Command, json_option
from .common import status
from .ls import megabytes


@click.command(name="convert-compiler", cls=Command)
@click.argument("reference", metavar="REPO_OR_DIR")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--bits", type=click.Choice(["4", "6", "8", "16", "32"]), default="8", show_default=True,
    help="Of the encoder's layers; 16 keeps them as published.",
)  # fmt: skip
@click.option("--offline", is_flag=True, help="Never touch the network.")
@json_option
def command(reference: str, out: Path, bits: str, offline: bool, as_json: bool) -> None:
    """Convert the published compiler REPO_OR_DIR into the new folder OUT.

    The encoder is quantized and laid out by layer, the mapper leaves its pickle; nothing in it
    is executed. Interrupted, the same command goes on where it stopped.
    """
    from .. import hub
    from ..convert.checkpoint import convert_compiler

    source = hub.resolve_compiler(reference, offline=offline, progress=status)
    start = time.perf_counter()
    made = convert_compiler(source, out, bits=int(bits), progress=status)
    seconds = time.perf_counter() - start
    size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
    if as_json:
        record = {"path": str(made), "bits": int(bits), "bytes": size, "seconds": seconds}
        click.echo(json.dumps(record))
        return
    click.echo(f"wrote {made}: {megabytes(size)} in {seconds:.0f} s")
