"""The options that several commands have, each written once.

A block of them hands the command one value: `base_options` gives `base`, and `output_options`
`typed`, keywords of `paw_mlx.function`; `decode_options` gives `options`, the `Options` of a call;
`declare_options` gives `declared`, the type that a new program's outputs get; `gate_option` gives
`gate`, what a report has to hold; `teacher_options` gives `teacher`, keywords of `find_teacher`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .voice import status

if TYPE_CHECKING:
    from ..output import Output

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

PATH = click.Path(path_type=Path)
BITS = (4, 6, 8, 16)


class FiniteRange(click.FloatRange):
    """A number in a range: click's takes nan everywhere, and inf where the range has no end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number; click's usage error for what is none, or not finite."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number", param, ctx)
        return number


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, errors too.")
offline_option = click.option("--offline", is_flag=True, help="Never touch the network.")
max_tokens_option = click.option(
    "--max-tokens", type=int, help="Output tokens at most.  [default: 512]"
)
batch_option = click.option(
    "--batch-size", type=click.IntRange(1), help="Calls in flight.  [default: what pays]"
)
adapter_option = click.option(
    "--adapter", type=click.Choice(["q4_0", "f16", "f32"]),
    help="How A and B are stored.  [default: q4_0; f16 for a rank that is no multiple of 32]",
)  # fmt: skip
alpha_option = click.option(
    "--alpha", type=float, help="Of a torch checkpoint, which does not say it."
)
rslora_option = click.option(
    "--rslora", is_flag=True, help="Of a torch checkpoint: its scale is alpha / sqrt(rank)."
)
overflow_option = click.option(
    "--overflow", type=click.Choice(["error", "head", "tail", "middle"]), default="error",
    show_default=True, help="What to keep of an input beyond the window (middle: both ends).",
)  # fmt: skip
labels_option = click.option(
    "--labels",
    metavar="A,B,…",
    help="Outputs are one of these; @FILE has one a line, commas and all.",
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
    """Add which base to run on, and where: --interpreter, --bits, … --offline, --local.

    The command gets them as `base`, keywords of `open_function`.
    """

    @wraps(command)
    def run(
        interpreter: str | None,
        bits: int | None,
        group_size: int,
        strict: bool,
        offline: bool,
        local: bool,
        **others: Any,
    ) -> Any:
        base = {
            "interpreter": interpreter,
            "bits": bits,
            "group_size": group_size,
            "strict": strict,
            "offline": offline,
            "local": local,
            "progress": status,
        }
        return command(base=base, **others)

    return add_options(
        run,
        interpreter_option("Run on this base instead."),
        bits_option("Quantize the base on load; kept on disk."),
        group_size_option("Weights that share a scale, with --bits."),
        click.option(
            "--strict", is_flag=True, help="Fail on a base other than PROGRAM was compiled for."
        ),
        offline_option,
        click.option("--local", is_flag=True, help="Run here, also while the daemon runs."),
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

    return add_options(
        run,
        max_tokens_option,
        click.option("--temperature", type=float, default=0.0, help="0 is greedy, the default."),
        click.option("--seed", type=int, help="Repeat a sampled output.  [default: random]"),
        overflow_option,
    )


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what outputs may be: --labels, --schema, --regex, --threshold, --otherwise.

    The command gets those that were given as `typed`, keywords of `paw_mlx.function`;
    OptionError, NotFound or FormatError for what cannot be.
    """

    @wraps(command)
    def run(
        labels: str | None,
        schema: Path | None,
        regex: str | None,
        threshold: float | None,
        otherwise: str | None,
        **others: Any,
    ) -> Any:
        typed = _read_type(labels, schema, regex)
        chosen = {"threshold": threshold, "otherwise": otherwise}
        typed |= {name: value for name, value in chosen.items() if value is not None}
        return command(typed=typed, **others)

    return add_options(
        run,
        *_TYPES,
        click.option(
            "--threshold",
            metavar="P",
            type=FiniteRange(0, 1),
            help="Say no label that is less likely than this, but --otherwise.",
        ),
        click.option("--otherwise", metavar="TEXT", help="What is said instead; else nothing is."),
    )


def declare_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what a new program's outputs may be: --labels, --schema, --regex, --text.

    The command gets it as `declared`, an `Output`, or None if nobody said; errors as those of
    `output_options`.
    """

    @wraps(command)
    def run(
        labels: str | None, schema: Path | None, regex: str | None, text: bool, **others: Any
    ) -> Any:
        return command(declared=_declared(_read_type(labels, schema, regex), text), **others)

    return add_options(
        run, *_TYPES, click.option("--text", is_flag=True, help="Any text, whatever the spec says.")
    )


def gate_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --gate, what a report has to hold.

    The command gets it as `gate`, a `Gate`, or None if nobody said; OptionError for what is none.
    """

    @wraps(command)
    def run(gate: str | None, **others: Any) -> Any:
        from ..evaluation import Gate

        return command(gate=None if gate is None else Gate.parse(gate), **others)

    return add_options(
        run,
        click.option(
            "--gate",
            metavar="GATE",
            help="Exit with 1 unless it holds, as in: accuracy>=95%, recall[ALERT]>=0.98.",
        ),
    )


def teacher_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add who writes examples: --teacher, --teacher-model, --plain-http.

    The command gets them as `teacher`, keywords of `find_teacher`.
    """

    @wraps(command)
    def run(teacher: str | None, teacher_model: str | None, plain_http: bool, **others: Any) -> Any:
        chosen = {"reference": teacher, "model": teacher_model, "plain_http": plain_http}
        return command(teacher=chosen, **others)

    return add_options(
        run,
        click.option(
            "--teacher",
            metavar="REF|URL|FILE",
            help="An instruct model that mlx-lm loads, an endpoint that speaks OpenAI's chat "
            "completions (its key: PAW_TEACHER_KEY), or a .jsonl of pairs.  "
            "[default: the pseudo-compiler's model]",
        ),
        click.option("--teacher-model", metavar="NAME", help="Which one, of an endpoint's models."),
        click.option("--plain-http", is_flag=True, help="Let --teacher be http:// elsewhere."),
    )


def compiler_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what to compile with, and for: --compiler, --interpreter, --bits, --pseudo-compiler."""
    return add_options(
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


_TYPES = (
    labels_option,
    click.option("--schema", metavar="FILE", type=PATH, help="Outputs are JSON of this schema."),
    click.option("--regex", metavar="RE", help="Outputs match this as a whole."),
)


def _read_type(labels: str | None, schema: Path | None, regex: str | None) -> dict[str, Any]:
    """Return the type that was given, as a keyword of `paw_mlx.function`, or none."""
    from .specs import read_labels, read_schema  # which bring numpy

    given = {"--labels": labels, "--schema": schema, "--regex": regex}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise click.UsageError(f"outputs are of one type: give {' or '.join(names)}")
    if labels is not None:
        return {"labels": read_labels(labels)}
    if schema is not None:
        return {"schema": read_schema(schema)}
    if regex is not None:
        from ..interpreter.engine.grammar import check_output
        from ..output import Regex

        check_output(Regex(regex))
        return {"regex": regex}
    return {}


def _declared(typed: dict[str, Any], text: bool) -> Output | None:
    from ..annotations import output_of
    from ..output import TEXT

    if typed and text:
        raise click.UsageError("--text is for outputs of no other type")
    return TEXT if text else output_of(**typed)


def add_options(command: Callable[..., Any], *options: Decorator) -> Callable[..., Any]:
    """Give a command options, to be listed in this order."""
    for option in reversed(options):
        command = option(command)
    return command
