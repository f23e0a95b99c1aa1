"""`paw-mlx run`: one input, one output."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .command import Command
from .common import read_input, say
from .options import PATH, base_options, decode_options, json_option

if TYPE_CHECKING:
    from ..runner import Options


@click.command(cls=Command)
@click.argument("program")
@click.argument("input", required=False)
@click.option("--file", type=PATH, help="Read the input from a file.")
@click.option("--stream", is_flag=True, help="Print the output as it is decoded.")
@json_option
@decode_options
@base_options
def command(
    program: str,
    input: str | None,
    file: Path | None,
    stream: bool,
    as_json: bool,
    options: Options,
    base: dict[str, Any],
) -> None:
    """Run PROGRAM on INPUT and print the output.

    PROGRAM is a path, a name in the store, or a hub reference. INPUT is text, or `-` for
    standard input, which is also read when INPUT is left out of a pipe.
    """
    if stream and as_json:
        raise click.UsageError("--stream prints text as it comes; --json waits for the end")
    text = read_input(input, file)
    from .. import function

    fn = function(program, **base)
    if stream:
        _say_cut(fn.runner.cut_tokens(fn.program, text, options))
        for piece in fn.stream(text, options):
            click.echo(piece, nl=False)
        click.echo()
        return
    result = fn.run(text, options)
    _say_cut(result.cut_tokens)
    if as_json:
        record = asdict(result) | {"seconds": result.seconds, "tok_s": result.tok_s}
        click.echo(json.dumps(record | {"program_id": fn.program.id}, ensure_ascii=False))
    else:
        click.echo(result.text)


def _say_cut(num_tokens: int) -> None:
    if num_tokens:
        say(f"{num_tokens} tokens of the input were cut")
