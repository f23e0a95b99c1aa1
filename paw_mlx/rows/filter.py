"""The lines for which a program says one of some labels, as they come."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from ..errors import FormatError, OptionError, PawError
from .flow import Outcome, outcomes
from .source import Input, decode_line

if TYPE_CHECKING:
    from ..program import Program
    from ..runner import Options, Runner


class FilteredLine(NamedTuple):
    """A line of a file or a pipe: its number from 1, its bytes with their end, its text."""

    number: int
    raw: bytes
    text: str


def filter_lines(
    runner: Runner,
    program: Program,
    source: Input,
    labels: Collection[str],
    options: Options,
    *,
    batch_size: int | None = None,
    on_error: str = "keep",
) -> Generator[tuple[Outcome[FilteredLine], bool]]:
    """Run a program on lines; yield what became of each, in order, and whether it is kept.

    It is if its output is one of `labels`, both as `fold` has them. One that fails is kept or
    dropped, or raises its error: `on_error` is keep, drop or stop.
    """
    if on_error not in ("keep", "drop", "stop"):
        raise OptionError(f"on_error is keep, drop or stop, not {on_error!r}")
    wanted = {fold(label) for label in labels}
    found = outcomes(
        runner,
        program,
        _read_lines(source),
        options,
        batch_size=batch_size,
        wake=source.wake,
        weigh=lambda line: len(line.raw),
    )
    with closing(found):
        for outcome in found:
            answer = outcome.answer
            if not isinstance(answer, PawError):
                yield outcome, fold(answer.text) in wanted
                continue
            if on_error == "stop":
                answer.add_note(f"It is line {outcome.item.number}'s.")
                raise answer
            yield outcome, on_error == "keep"


def fold(label: str) -> str:
    """Return a label as it is compared: stripped, in lower case."""
    return label.strip().casefold()


def _read_lines(source: Input) -> Iterator[tuple[FilteredLine, str | FormatError] | None]:
    number = 0
    for line in source.lines:
        if line is None:
            yield None
            continue
        number += 1
        text, error = decode_line(line)
        yield FilteredLine(number, line, text), error or text
