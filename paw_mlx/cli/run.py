"""`paw-mlx run`: one input, one output."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..words import counted
from .command import Command
from .common import print_data, print_json, read_input
from .opening import open_function
from .options import PATH, base_options, decode_options, json_option, output_options
from .references import PROGRAM
from .voice import say

if TYPE_CHECKING:
    from ..runner import Options, Result


@click.command(cls=Command)
@click.argument("program", type=PROGRAM)
@click.argument("input", required=False)
@click.option("--file", type=PATH, help="Read the input from a file.")
@click.option("--stream", is_flag=True, help="Print the output as it is decoded.")
@json_option
@decode_options
@output_options
@base_options
def command(
    program: str,
    input: str | None,
    file: Path | None,
    stream: bool,
    as_json: bool,
    options: Options,
    typed: dict[str, Any],
    base: dict[str, Any],
) -> None:
    """Run PROGRAM on INPUT and print the output.

    PROGRAM is a path, a name in the store, or a hub reference. INPUT is text, or `-` for
    standard input, which is also read when INPUT is left out of a pipe. An output that was cut
    before its end is printed all the same, and said to be on stderr; so is that no label was
    likely enough to be said.
    """
    if stream and as_json:
        raise click.UsageError("--stream prints text as it comes; --json waits for the end")
    text = read_input(input, file)
    fn = open_function(program, **base, **typed)
    if stream:
        say_cut(fn.runner.cut_tokens(fn.program, text, options))
        pieces = fn.stream(text, options)
        held = ""  # a \r that may be half the end of a line
        for piece in pieces:
            whole = (held + piece).removesuffix("\r")
            held = (held + piece)[len(whole) :]
            print_data(whole)
        print_data(f"{held}\n")
        _say_doubts(pieces.result, options)
        return
    result = fn.run(text, options)
    say_cut(result.cut_tokens)
    if as_json:
        print_json(result.record() | {"program_id": fn.program.id})
    else:
        print_data(f"{result.text}\n")
        _say_doubts(result, options)


def say_cut(num_tokens: int) -> None:
    """Say that tokens of an input were left out, if any were."""
    if num_tokens:
        say(f"{num_tokens} tokens of the input were cut")


def _say_doubts(result: Result, options: Options) -> None:
    say_doubts(result.record(), getattr(result.output, "threshold", None), options.max_tokens)


def say_doubts(record: Mapping[str, Any], threshold: float | None, max_tokens: int | None) -> None:
    """Say that an output is not whole, or that there is none, and why."""
    if record.get("abstained") and not record["text"]:
        likely = f"{record['label']!r} is the likeliest label, at {record['probability']:.3g}"
        say(f"abstained: {likely}, and the threshold is {threshold:g}")
    if record["finish_reason"] == "length":
        num = record["output_tokens"]
        why = f"--max-tokens {num}" if max_tokens == num else "the default, or the window's end"
        say(f"the output was cut after {counted(num, 'token')} ({why})")
