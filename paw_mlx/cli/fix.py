"""`paw-mlx fix`: keep what a program should have answered."""

from __future__ import annotations

from typing import Any

import click

from .. import kept_cases
from ..cases import Case
from ..errors import PawError
from .case import sentence, status_of
from .command import Command
from .common import print_json, quoted, read_input
from .opening import open_function
from .options import base_options, json_option, max_tokens_option
from .references import NAME


@click.command(cls=Command)
@click.argument("name", type=NAME)
@click.argument("input")
@click.argument("expected")
@max_tokens_option
@json_option
@base_options
def command(
    name: str,
    input: str,
    expected: str,
    max_tokens: int | None,
    as_json: bool,
    base: dict[str, Any],
) -> None:
    """Keep the case that EXPECTED is the right output for INPUT, and say what NAME answers now.

    INPUT is text, or `-` for standard input. The case is kept with the stored program NAME, as
    `paw-mlx case add` does, whether the answer is right already or cannot be had.
    """
    case = Case(read_input(input, None), expected)
    added = kept_cases.add(name, [case])
    from .. import Options
    from ..evaluation import Judged

    try:
        judged = Judged.of(case, open_function(name, **base).run(case.input, Options(max_tokens)))
    except PawError as error:
        error.add_note(f"The case is safe all the same: {sentence(name, added)}.")
        raise
    if as_json:
        record = {"program": name, "number": added.numbers[0], "status": status_of(added)}
        print_json(record | {"output": judged.output, "correct": judged.correct})
        return
    if judged.correct:
        click.echo(f"got       {quoted(judged.output)}, which is right already")
    else:
        cut = "" if judged.is_whole else ", cut before its end"
        click.echo(f"got       {quoted(judged.output)}{cut}\nexpected  {quoted(judged.right)}")
    click.echo(sentence(name, added))
