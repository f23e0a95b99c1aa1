"""`paw-mlx filter`: the lines that a program gives a label, passed on as they come."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..errors import FormatError, PawError
from . import RowCommand, error_record, json_option
from .common import base_options, chosen_base, counted, decode_options, say, status
from .lines import Input, decoded, open_input
from .map import batch_option
from .sinks import Stdout
from .tally import Tally

if TYPE_CHECKING:
    from ..interpreter import Function, Options
    from ..interpreter.mapping import Outcome


class Line(NamedTuple):
    number: int
    raw: bytes
    text: str


@click.command(cls=RowCommand)
@click.argument("program")
@click.argument("file", required=False)
@click.option(
    "--keep", "labels", metavar="LABEL", multiple=True, required=True,
    help="Pass on lines with this output; several times for several.",
)  # fmt: skip
@click.option(
    "--on-error", type=click.Choice(["keep", "drop", "stop"]), default="keep", show_default=True,
    help="What to do with a line that fails.",
)  # fmt: skip
@batch_option
@json_option
@decode_options
@base_options
def command(
    program: str,
    file: str | None,
    labels: tuple[str, ...],
    on_error: str,
    overflow: str,
    batch_size: int | None,
    as_json: bool,
    max_tokens: int | None,
    temperature: float,
    seed: int | None,
    **base: Any,
) -> None:
    """Pass on the lines of FILE for which PROGRAM says LABEL, in order and each at once.

    `-`, or no FILE in a pipe, is standard input, which may be endless (`tail -f`). Outputs are
    compared with LABEL stripped and in any case. A line that fails is passed on, too, and the
    exit code is 1. With --json, lines come as {"row", "input", "output"}.
    """
    from .. import Options, function

    options = Options(max_tokens, temperature, seed, overflow=overflow)
    with open_input(file) as source:
        fn = function(program, **chosen_base(**base))
        if not as_json:
            _check_labels(fn, labels)
        chosen = Filter(fn, options, batch_size, source, _folded(labels), on_error, as_json)
        with closing(fn.interpreter):
            fn.interpreter.cut_tokens(fn.program, "x", options)  # does any line fit at all?
            chosen.run()
    if chosen.tally.num_failed:
        raise click.exceptions.Exit(1)


class Filter:
    """A program on lines, and what becomes of each."""

    def __init__(
        self,
        function: Function,
        options: Options,
        batch_size: int | None,
        source: Input,
        labels: frozenset[str],
        on_error: str,
        as_json: bool,
    ) -> None:
        self._function, self._options, self._batch_size = function, options, batch_size
        self._source, self._labels = source, labels
        self._on_error, self._as_json = on_error, as_json
        self._sink, self._num_kept = Stdout(), 0
        self.tally = Tally("line", live=not sys.stdout.isatty())

    def run(self) -> None:
        from ..interpreter.mapping import outcomes

        found = outcomes(
            self._function,
            _inputs(self._source),
            self._options,
            batch_size=self._batch_size,
            wake=self._source.wake,
            weigh=lambda line: len(line.raw),
        )
        try:
            with closing(found):
                for outcome in found:
                    self._take(outcome)
        except KeyboardInterrupt:
            self._summarize(status)
            raise
        finally:
            self.tally.clear()
        self._summarize(say)

    def _take(self, outcome: Outcome[Line]) -> None:
        line, answer = outcome.item, outcome.answer
        self.tally.add(outcome)
        if isinstance(answer, PawError):
            if self._on_error == "stop":
                answer.add_note(f"It is line {line.number}'s.")
                raise answer
            self.tally.say_error(line.number, answer, self._as_json)
            keep = self._on_error == "keep"
        else:
            keep = _fold(answer.text) in self._labels
        if keep:
            self._num_kept += 1
            self._sink.write(line.number, self._shown(line, outcome), False)

    def _shown(self, line: Line, outcome: Outcome[Line]) -> bytes:
        if not self._as_json:
            return line.raw if line.raw.endswith(b"\n") else line.raw + b"\n"
        record: dict[str, Any] = {"row": line.number, "input": line.text}
        if isinstance(outcome.answer, PawError):
            record |= error_record(outcome.answer)
        else:
            record["output"] = outcome.answer.text
        return json.dumps(record, ensure_ascii=False).encode() + b"\n"

    def _summarize(self, tell: Callable[[str], None]) -> None:
        tally, num_kept = self.tally, self._num_kept
        tally.clear()
        if self._as_json:
            tell(json.dumps(tally.record | {"num_kept": num_kept}))
            return
        num_lines = counted(tally.num_rows, "line")
        lines = f"{num_lines} in, {num_kept:,} kept"
        tell(", ".join([lines, *tally.notes, f"{tally.rows_s:.1f} lines/s"]))
        if tally.num_failed:
            tell(f"{tally.num_failed:,} of {num_lines} failed")


def _inputs(source: Input) -> Iterator[tuple[Line, str | FormatError] | None]:
    number = 0
    for line in source.lines:
        if line is None:
            yield None
            continue
        number += 1
        text, error = decoded(line)
        yield Line(number, line, text), error or text


def _fold(text: str) -> str:
    return text.strip().casefold()


def _folded(labels: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(_fold, labels))


def _check_labels(function: Function, labels: tuple[str, ...]) -> None:
    """Say which labels the program's own description does not know: they may be misspelt."""
    program = function.program
    known = _fold(f"{program.spec} {program.pseudo_program}")
    for label in labels:
        if program.spec and not re.search(rf"(?<!\w){re.escape(_fold(label))}(?!\w)", known):
            say(f"the spec of the program does not mention {label!r}")
