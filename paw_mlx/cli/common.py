"""What several commands share: their options, their input, their voice on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import click

from ..errors import NotFound, OptionError

alpha_option = click.option(
    "--alpha", type=float, help="Of a torch checkpoint, which does not say it."
)


def base_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which base to run on, and how: --interpreter, --bits, --group-size, --strict, --offline."""
    for option in (
        click.option("--offline", is_flag=True, help="Never touch the network."),
        click.option(
            "--strict", is_flag=True, help="Fail on a base other than PROGRAM was compiled for."
        ),
        click.option(
            "--group-size",
            type=click.Choice(["32", "64", "128"]),
            default="64",
            show_default=True,
            help="Weights that share a scale, with --bits.",
        ),
        click.option(
            "--bits",
            type=click.Choice(["4", "6", "8", "16"]),
            help="Quantize the base on load; kept on disk.",
        ),
        click.option("--interpreter", metavar="REF", help="Run on this base instead."),
    ):
        command = option(command)
    return command


def decode_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How to decode: --max-tokens, --temperature, --seed, --overflow."""
    for option in (
        click.option(
            "--overflow",
            type=click.Choice(["error", "head", "tail", "middle"]),
            default="error",
            show_default=True,
            help="What to keep of an input beyond the window (middle: both ends).",
        ),
        click.option("--seed", type=int, help="Repeat a sampled output.  [default: random]"),
        click.option("--temperature", type=float, default=0.0, help="0 is greedy, the default."),
        click.option("--max-tokens", type=int, help="Output tokens at most.  [default: 512]"),
    ):
        command = option(command)
    return command


def compiler_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What to compile with, and for: --compiler, --interpreter, --bits, --pseudo-compiler."""
    for option in (
        click.option(
            "--pseudo-compiler",
            metavar="REF",
            help="Any instruct model that mlx-lm loads.  "
            "[default: Qwen3-4B-Instruct-2507 in 4 bits]",
        ),
        click.option(
            "--bits",
            type=click.Choice(["4", "6", "8", "16", "32"]),
            help="Of the encoder, where it has yet to be converted.  [default: 8]",
        ),
        click.option(
            "--interpreter", metavar="REF", help="Compile for this base.  [default: qwen3-0.6b]"
        ),
        click.option(
            "--compiler", metavar="REF", help="[default: the published one for the interpreter]"
        ),
    ):
        command = option(command)
    return command


def chosen_base(
    interpreter: str | None, bits: str | None, group_size: str, strict: bool, offline: bool
) -> dict[str, Any]:
    """The base options as keywords of `paw_mlx.function`."""
    return {
        "interpreter": interpreter,
        "bits": int(bits) if bits else None,
        "group_size": int(group_size),
        "strict": strict,
        "offline": offline,
        "progress": status,
    }


def read_input(text: str | None, file: Path | None) -> str:
    """The input: an argument, a file, or standard input (`-`, or a pipe). A trailing
    newline of a file or pipe is not part of it."""
    if file is not None:
        if text is not None:
            raise click.UsageError("give INPUT or --file, not both")
        try:
            return _decoded(file.read_bytes(), str(file))
        except OSError as error:
            raise NotFound(f"cannot read {file}: {error.strerror}") from error
    if text is not None and text != "-":
        return text
    if text is None and sys.stdin.isatty():
        raise click.UsageError("give INPUT, or pipe it in")
    data = sys.stdin.buffer.read()
    if not data:
        say("standard input is empty; running on an empty input")
    return _decoded(data, "standard input")


def say(message: str, *, nl: bool = True) -> None:
    """A line of status, on stderr, whether or not anyone reads it."""
    try:
        click.echo(message, nl=nl, err=True)
    except OSError:
        hush(sys.stderr)


def hush(stream: TextIO) -> None:
    """Let what is still to be printed go nowhere: nobody takes it any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def counted(number: int, noun: str) -> str:
    """`1 row`, `1,234 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def status(message: str) -> None:
    """A line of status that only someone watching a terminal wants."""
    if sys.stderr.isatty():
        say(message)


def table(rows: list[list[str]]) -> str:
    """Rows as aligned columns; all but the first are aligned right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def _decoded(data: bytes, where: str) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OptionError(
            f"{where} is not UTF-8: byte {data[error.start]:#04x} at {error.start}",
            hint="Convert it, for example with `iconv -t UTF-8`.",
        ) from error
    return text.removesuffix("\n").removesuffix("\r")
