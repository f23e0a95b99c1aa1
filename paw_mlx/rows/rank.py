"""Rows in the order of what a program's labels say of them, the best first."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import OptionError, PawError
from ..output import Schema
from ..runner import Result
from .best import take_best
from .flow import Outcome, outcomes
from .formats import is_streamed, open_writer
from .row import Added, Row, check_probable
from .run import RowFiles
from .sink import Sink
from .source import Source
from .target import Target, format_of

if TYPE_CHECKING:
    from ..program import Program
    from ..runner import Options, Runner

RankedRow = tuple[Row, Result | PawError]
_NUMBER = Schema.of({"type": "number"})


def open_ranked(
    source: Source,
    output: Target | None = None,
    *,
    format: str | None = None,
    field: str | None = None,
    score_field: str | None = None,
    as_json: bool = False,
) -> RowFiles:
    """Begin to read an input whose rows get a score (None: `score`), as `RowFiles.open` does.

    `as_json`: rows are written as JSON lines, whatever they are, unless `output` says otherwise.
    """
    written = format_of(output) or format or source.format or "lines"
    if output and not is_streamed(written):
        raise OptionError(
            f"{output}: ranked rows are lines, JSON lines or csv", hint="Name it .jsonl or .csv."
        )
    if written == "lines" and not as_json:
        return RowFiles.open(source, output, format=format, field=field, output_field=score_field)
    name = score_field or "score"
    if written != "lines":
        files = RowFiles.open(source, output, format=format, field=field, output_field=name)
    else:
        files = RowFiles.open(source, output, format=format, field=field)
    if not as_json or output:
        return files
    added = Added.to(files.reader.columns, name, numbered=False)
    if clash := added.clash(files.reader.columns, "the input"):
        raise clash
    writer = open_writer("jsonl", source, files.reader, None, added)
    return replace(files, writer=writer, added=added, written="jsonl")


def rank_rows(
    runner: Runner,
    program: Program,
    files: RowFiles,
    options: Options,
    *,
    top: int | None = None,
    batch_size: int | None = None,
    on_row: Callable[[Outcome[Row]], None] = lambda _: None,
) -> list[RankedRow]:
    """Run a program on all rows and return them with their scores, the best first.

    The score is a decision's; rows with the same one stay in order, and those that fail come last,
    with their errors. `top` rows are returned at most, and no more are held. `on_row` hears of each
    as it is done. OptionError for a program whose outputs are none of some labels.
    """
    check_probable(program.output)
    found = outcomes(
        runner,
        program,
        files.inputs(Sink()),
        options,
        batch_size=batch_size,
        wake=files.source.wake,
        weigh=lambda row: len(row.raw),
    )
    with closing(found):
        best = take_best(_scored(found, on_row), top, lambda row: row[0])
    return [(row, answer) for _, row, answer in best]


def show_ranked(files: RowFiles, row: Row, answer: Result | PawError) -> bytes:
    r"""Write a row with its score: lines have it before them, and a tab; a break is \n there."""
    if files.written != "lines":
        return files.writer.row(row, answer)
    score = "" if isinstance(answer, PawError) else f"{float(answer.text):.4f}"
    text = row.text.replace("\r", "\\r").replace("\n", "\\n")
    return f"{score}\t{text}\n".encode("utf-8", "replace")


def _scored(
    found: Generator[Outcome[Row]], on_row: Callable[[Outcome[Row]], None]
) -> Generator[tuple[float, Row, Result | PawError]]:
    for outcome in found:
        on_row(outcome)
        row, answer, _ = outcome
        if isinstance(answer, PawError):
            yield -1.0, row, answer
            continue
        assert answer.decision is not None
        score = answer.decision.score
        # A score is an output, too: a number, as JSON has it.
        yield score, row, replace(answer, text=repr(score), output=_NUMBER, decision=None)
