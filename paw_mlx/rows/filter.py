"""The lines for which a program says one of some labels, as they come."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from ..errors import FormatError, OptionError, PawError, listed
from ..output import Decision, Labels, Output
from .flow import Outcome, outcomes
from .row import check_probable
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
    min_probability: float | None = None,
) -> Generator[tuple[Outcome[FilteredLine], bool]]:
    """Run a program on lines; yield what became of each, in order, and whether it is kept.

    It is if its output is one of `labels`, both as `fold` has them, and that label at least as
    likely as `min_probability`; a line that was abstained on is asked for by what is said
    instead, whatever its probability. One that fails is kept or dropped, or raises its error:
    `on_error` is keep, drop or stop. OptionError, before the first, for what can keep no line.
    """
    if on_error not in ("keep", "drop", "stop"):
        raise OptionError(f"on_error is keep, drop or stop, not {on_error!r}")
    _check_labels(program.output, labels, options.otherwise, min_probability)
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
                sure = _is_sure(answer.decision, min_probability)
                yield outcome, sure and fold(answer.text) in wanted
                continue
            if on_error == "stop":
                answer.add_note(f"It is line {outcome.item.number}'s.")
                raise answer
            yield outcome, on_error == "keep"


def fold(label: str) -> str:
    """Return a label as it is compared: stripped, in lower case."""
    return label.strip().casefold()


def _check_labels(
    output: Output, wanted: Collection[str], otherwise: str | None, least: float | None
) -> None:
    """Raise OptionError for a label that is never said, and a probability that no output has."""
    if least is not None:
        check_probable(output)
    if not isinstance(output, Labels):
        return
    instead = output.otherwise if otherwise is None else otherwise
    known = [*output.labels, *([instead] if instead else [])]
    folded = {fold(label) for label in known}
    if never := [label for label in wanted if fold(label) not in folded]:
        raise OptionError(f"the program never says {listed(never)}: it says {listed(known)}")


def _is_sure(decision: Decision | None, least: float | None) -> bool:
    """Return whether a label is likely enough; an abstention has none that could be unlikely."""
    return decision is None or least is None or decision.abstained or decision.probability >= least


def _read_lines(source: Input) -> Iterator[tuple[FilteredLine, str | FormatError] | None]:
    number = 0
    for line in source.lines:
        if line is None:
            yield None
            continue
        number += 1
        text, error = decode_line(line)
        yield FilteredLine(number, line, text), error or text
