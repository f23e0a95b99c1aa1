"""`paw-mlx filter`: the lines that a program gives a label, passed on as they come."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Generator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from ..errors import PawError
from ..output import TEXT
from ..rows.filter import FilteredLine, filter_lines, fold
from ..rows.flow import Outcome
from ..rows.jsonl import dumps, said
from ..rows.tally import Tally
from ..words import counted
from .command import RowCommand
from .common import to_json
from .opening import open_function
from .options import (
    FiniteRange,
    base_options,
    batch_option,
    decode_options,
    json_option,
    output_options,
)
from .progress_line import ProgressLine, notes
from .references import FILE, PROGRAM
from .rows import Stdout, open_lines
from .voice import say, status

if TYPE_CHECKING:
    from ..program import Program
    from ..runner import Options


@click.command(cls=RowCommand)
@click.argument("program", type=PROGRAM)
@click.argument("file", required=False, type=FILE)
@click.option(
    "--keep", "wanted", metavar="LABEL", multiple=True, required=True,
    help="Pass on lines with this output; several times for several.",
)  # fmt: skip
@click.option(
    "--min-probability", metavar="P", type=FiniteRange(0, 1),
    help="Pass on no line whose label is less likely.",
)  # fmt: skip
@click.option(
    "--on-error", type=click.Choice(["keep", "drop", "stop"]), default="keep", show_default=True,
    help="What to do with a line that fails.",
)  # fmt: skip
@batch_option
@json_option
@decode_options
@output_options
@base_options
def command(
    program: str,
    file: str | None,
    wanted: tuple[str, ...],
    min_probability: float | None,
    on_error: str,
    batch_size: int | None,
    as_json: bool,
    options: Options,
    typed: dict[str, Any],
    base: dict[str, Any],
) -> None:
    """Pass on the lines of FILE for which PROGRAM says LABEL, in order and each at once.

    `-`, or no FILE in a pipe, is standard input, which may be endless (`tail -f`). Outputs are
    compared with LABEL stripped and in any case. A line that fails is passed on, too, and the
    exit code is 1. With --json, lines come as {"row", "input", "output"}, with all
    probabilities of labels. A line for which no label is likely enough (--threshold) is passed
    on if --keep names what is said --otherwise.
    """

    with open_lines(file) as source:
        fn = open_function(program, **base, **typed)
        if not as_json and fn.program.output == TEXT:
            _say_unknown_labels(fn.program, wanted)
        with closing(fn.runner):
            fn.runner.cut_tokens(fn.program, "x", options)  # does any line fit at all?
            found = filter_lines(
                fn.runner,
                fn.program,
                source,
                wanted,
                options,
                batch_size=batch_size,
                on_error=on_error,
                min_probability=min_probability,
            )
            tally = _pass_on(found, as_json)
    if tally.num_failed:
        raise click.exceptions.Exit(1)


def _pass_on(found: Generator[tuple[Outcome[FilteredLine], bool]], as_json: bool) -> Tally:
    """Print the lines that are kept; say on stderr what becomes of all."""
    tally, num_kept, sink = Tally(), 0, Stdout()
    progress = ProgressLine("line", tally, live=not sys.stdout.isatty())
    try:
        with closing(found):
            for outcome, keep in found:
                tally.add(outcome)
                progress.update()
                if isinstance(outcome.answer, PawError):
                    progress.say_error(outcome.item.number, outcome.answer, as_json)
                if keep:
                    num_kept += 1
                    sink.write(outcome.item.number, _show(outcome, as_json), False)
    except KeyboardInterrupt:
        progress.clear()
        _summarize(tally, num_kept, as_json, status)
        raise
    finally:
        progress.clear()
    _summarize(tally, num_kept, as_json, say)
    return tally


def _show(outcome: Outcome[FilteredLine], as_json: bool) -> bytes:
    """Return a line as it is printed: as it stands, or an object."""
    line, answer = outcome.item, outcome.answer
    if not as_json:
        return line.raw if line.raw.endswith(b"\n") else line.raw + b"\n"
    record: dict[str, Any] = {"row": line.number, "input": line.text}
    if isinstance(answer, PawError):
        record["error"] = answer.record()
    else:
        record["output"] = said(answer)
        if not answer.is_whole:
            record["finish_reason"] = answer.finish_reason
        record |= answer.decision.record() if answer.decision else {}
    return dumps(record).encode() + b"\n"


def _summarize(tally: Tally, num_kept: int, as_json: bool, tell: Callable[[str], None]) -> None:
    if as_json:
        tell(to_json(tally.record | {"num_kept": num_kept}))
        return
    num_lines = counted(tally.num_rows, "line")
    lines = f"{num_lines} in, {num_kept:,} kept"
    tell(", ".join([lines, *notes(tally), f"{tally.rows_s:.1f} lines/s"]))
    if tally.num_failed:
        tell(f"{tally.num_failed:,} of {num_lines} failed")


def _say_unknown_labels(program: Program, labels: tuple[str, ...]) -> None:
    """Say which labels the program's own description does not know: they may be misspelt."""
    known = fold(f"{program.spec} {program.pseudo_program}")
    for label in labels:
        if program.spec and not re.search(rf"(?<!\w){re.escape(fold(label))}(?!\w)", known):
            say(f"the spec of the program does not mention {label!r}")
