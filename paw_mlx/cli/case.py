"""`paw-mlx case`: the cases kept with a program."""

from __future__ import annotations

import re
from pathlib import Path

import click

from .. import kept_cases
from ..cases import Case
from ..words import counted
from .command import Command
from .common import print_json, printable, quoted, read_input
from .options import PATH, json_option
from .references import NAME, PROGRAM
from .voice import say

_WIDTH = 60  # characters of a text in the table; JSON has all of it


class Numbers(click.ParamType):
    """Numbers of cases: `3`, or `3-5` for all from 3 to 5."""

    name = "numbers"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> range:
        match = re.fullmatch(r"([1-9]\d{0,5})(?:-([1-9]\d{0,5}))?", value)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            self.fail(f"{value!r} is no number of a case, such as 3, or 3-5.")
        return range(int(match[1]), int(match[2] or match[1]) + 1)


@click.group()
def command() -> None:
    """Keep cases with a stored program: inputs, and the outputs that are right for them.

    All versions of a name share them. `paw-mlx test NAME` runs them, and `paw-mlx convert NAME
    OUT.paw` takes them along.
    """


@command.command("add", cls=Command)
@click.argument("name", type=NAME)
@click.argument("input")
@click.argument("expected")
@json_option
def add(name: str, input: str, expected: str, as_json: bool) -> None:
    """Keep a case with NAME: EXPECTED is the right output for INPUT.

    INPUT is text, or `-` for standard input. Of an input that has a case already, the output is
    replaced.
    """
    case = Case(read_input(input, None), expected)
    added = kept_cases.add(name, [case])
    if as_json:
        print_json({"program": name, "number": added.numbers[0], "status": status_of(added)})
    else:
        click.echo(sentence(name, added))


@command.command("ls", cls=Command)
@click.argument("program", type=PROGRAM)
@json_option
def ls(program: str, as_json: bool) -> None:
    """List the cases that are kept with PROGRAM, a name, or that a program's file carries."""
    cases = kept_cases.read(program)
    if as_json:
        told = [{"number": number, **case.record()} for number, case in enumerate(cases, 1)]
        print_json({"program": program, "cases": told})
        return
    if not cases:
        say(f"no cases are kept with {program}; `paw-mlx case add` keeps one")
        return
    rows = [["", "EXPECTED", "INPUT"]]
    rows += [[str(n), _cut(case.output), _cut(case.input)] for n, case in enumerate(cases, 1)]
    wide, wider = (max(len(row[column]) for row in rows) for column in (0, 1))
    for number, expected, text in rows:
        click.echo(f"{number:>{wide}}  {expected:<{wider}}  {text}")


@command.command("rm", cls=Command)
@click.argument("name", type=NAME)
@click.argument("numbers", nargs=-1, required=True, type=Numbers(), metavar="N...")
@json_option
def rm(name: str, numbers: tuple[range, ...], as_json: bool) -> None:
    """Remove the cases N of NAME, as `case ls` numbers them; `3-5` are three.

    The cases behind them move up.
    """
    chosen = sorted({number for several in numbers for number in several})
    removed = kept_cases.remove(name, chosen)
    if as_json:
        print_json({"program": name, "removed": [case.record() for case in removed]})
        return
    for number, case in zip(chosen, removed, strict=True):
        click.echo(f"removed case {number} of {name}: {quoted(case.record())}")


@command.command("import", cls=Command)
@click.argument("name", type=NAME)
@click.argument("file", type=PATH)
@json_option
def import_(name: str, file: Path, as_json: bool) -> None:
    """Keep the cases of FILE with NAME: JSON lines {"input": …, "output": …}, or a csv.

    A csv has the columns input and output. Two rows of one input are refused, and nothing is kept.
    """
    cases = kept_cases.read_file(file)
    added = kept_cases.add(name, cases)
    counts = {"new": added.new, "same": added.same, "replaced": added.replaced}
    if as_json:
        print_json({"program": name} | counts)
        return
    told = [f"{added.new:,} new"]
    told += [f"{added.same:,} kept already"] if added.same else []
    told += [f"{added.replaced:,} with another output than before"] if added.replaced else []
    click.echo(f"{counted(len(cases), 'case')} for {name}: {', '.join(told)}")


def status_of(added: kept_cases.Added) -> str:
    """Return what became of one case: `new`, `same` or `replaced`."""
    return "new" if added.new else "same" if added.same else "replaced"


def sentence(name: str, added: kept_cases.Added) -> str:
    """Say what became of one case."""
    number = f"case {added.numbers[0]} of {name}"
    if added.replaced:
        return f"{number} has another output now, and had {quoted(added.before[0].output)}"
    return f"kept as {number}" if added.new else f"kept already, as {number}"


def _cut(text: str) -> str:
    return printable(text if len(text) <= _WIDTH else f"{text[:_WIDTH]}…")
