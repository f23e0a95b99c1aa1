"""The options that several commands have, each written once.

A block of them hands the command one value: `base_options` gives `base`, the keywords of
`paw_mlx.function`, and `decode_options` gives `options`, the `Options` of a call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from .voice import status

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

PATH = click.Path(path_type=Path)
BITS = (4, 6, 8, 16)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, errors too.")
offline_option = click.option("--offline", is_flag=True, help="Never touch the network.")
max_tokens_option = click.option(
    "--max-tokens", type=int, help="Output tokens at most.  [default: 512]"
)
batch_option = click.option(
    "--batch-size", type=click.IntRange(1), help="Calls in flight.  [default: what pays]"
)
adapter_option = click.option(
    "--adapter", type=click.Choice(["q4_0", "f16", "f32"]), default="q4_0", show_default=True,
    help="How A and B are stored.",
)  # fmt: skip
alpha_option = click.option(
    "--alpha", type=float, help="Of a torch checkpoint, which does not say it."
)
rslora_option = click.option(
    "--rslora", is_flag=True, help="Of a torch checkpoint: its scale is alpha / sqrt(rank)."
)
compiler_option = click.option(
    "--compiler", metavar="REF", help="[default: the published one for the interpreter]"
)


def interpreter_option(help: str | None = None, **more: Any) -> Decorator:
    """Return --interpreter, which names a base."""
    return click.option("--interpreter", metavar="REF", help=help, **more)


def bits_option(help: str, bits: tuple[int, ...] = BITS, **more: Any) -> Decorator:
    """Return --bits, a number of these."""
    return click.option("--bits", type=click.Choice(bits), help=help, **more)


def group_size_option(help: str) -> Decorator:
    """Return --group-size, of weights that are packed."""
    return click.option(
        "--group-size", type=click.Choice([32, 64, 128]), default=64, show_default=True, help=help
    )


def base_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add which base to run on, and how: --interpreter, --bits, --group-size, --strict, --offline.

    The command gets them as `base`, the keywords of `paw_mlx.function`.
    """

    @wraps(command)
    def run(
        interpreter: str | None,
        bits: int | None,
        group_size: int,
        strict: bool,
        offline: bool,
        **others: Any,
    ) -> Any:
        base = {
            "interpreter": interpreter,
            "bits": bits,
            "group_size": group_size,
            "strict": strict,
            "offline": offline,
            "progress": status,
        }
        return command(base=base, **others)

    return _add(
        run,
        interpreter_option("Run on this base instead."),
        bits_option("Quantize the base on load; kept on disk."),
        group_size_option("Weights that share a scale, with --bits."),
        click.option(
            "--strict", is_flag=True, help="Fail on a base other than PROGRAM was compiled for."
        ),
        offline_option,
    )


def decode_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add how to decode: --max-tokens, --temperature, --seed, --overflow.

    The command gets them as `options`; OptionError for values out of range.
    """

    @wraps(command)
    def run(
        max_tokens: int | None, temperature: float, seed: int | None, overflow: str, **others: Any
    ) -> Any:
        from ..runner import Options

        chosen = Options(max_tokens, temperature, seed, overflow=overflow)
        return command(options=chosen, **others)

    return _add(
        run,
        max_tokens_option,
        click.option("--temperature", type=float, default=0.0, help="0 is greedy, the default."),
        click.option("--seed", type=int, help="Repeat a sampled output.  [default: random]"),
        click.option(
            "--overflow",
            type=click.Choice(["error", "head", "tail", "middle"]),
            default="error",
            show_default=True,
            help="What to keep of an input beyond the window (middle: both ends).",
        ),
    )


def compiler_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what to compile with, and for: --compiler, --interpreter, --bits, --pseudo-compiler."""
    return _add(
        command,
        compiler_option,
        interpreter_option("Compile for this base.  [default: qwen3-0.6b]"),
        bits_option("Of the encoder, where it has yet to be converted.  [default: 8]", (*BITS, 32)),
        click.option(
            "--pseudo-compiler",
            metavar="REF",
            help="Any instruct model that mlx-lm loads.  "
            "[default: Qwen3-4B-Instruct-2507 in 4 bits]",
        ),
    )


def _add(command: Callable[..., Any], *options: Decorator) -> Callable[..., Any]:
    """Give a command options, to be listed in this order."""
    for option in reversed(options):
        command = option(command)
    return command
