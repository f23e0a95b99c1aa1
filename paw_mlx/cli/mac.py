"""`paw-mlx mac`: functions in macOS, installed, listed and removed."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from ..errors import OptionError
from ..mac import install as installing
from ..mac import register, system, tags
from ..mac.kinds import KINDS
from ..mac.plan import Plan, Request, make_request
from ..words import counted
from .command import Command
from .common import print_data, print_json, printable
from .options import PATH, add_options, json_option, labels_option
from .specs import read_labels
from .voice import say

_AT = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


class _Time(click.ParamType):
    """A time of day, as in 8:30."""

    name = "time"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        match = _AT.fullmatch(value)
        if match is None:
            self.fail(f"{value!r} is no time of day, such as 8:30.")
        return int(match[1]), int(match[2])


def _plan_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what to make, and where; the command gets it as `request`."""

    @wraps(command)
    def run(name: str, kind: str, labels: str | None, **others: Any) -> Any:
        chosen = {key: others.pop(key) for key in ("title", "home", "into")}
        given = {key: others.pop(key) for key in ("folder", "to", "at")}
        replace, show = others.pop("replace"), others.pop("show")
        if replace and show:
            raise click.UsageError("an answer replaces the text or is shown: give one of the two")
        given["replace"] = replace if replace or show else None
        given = {key: value for key, value in given.items() if value is not None}
        for option in given.keys() - KINDS[kind].options:
            fitting = " or ".join(k for k, each in KINDS.items() if option in each.options)
            word = "--replace and --show go" if option == "replace" else f"--{option} goes"
            raise click.UsageError(f"{word} with --as {fitting}, not with {kind}")
        told = tuple(read_labels(labels)) if labels else ()
        request = make_request(name, kind, labels=told, **chosen, **given)
        return command(request=request, **others)

    return add_options(
        run,
        click.argument("name"),
        click.option(
            "--as",
            "kind",
            type=click.Choice(list(KINDS)),
            required=True,
            help="What it becomes.",
        ),
        click.option("--title", metavar="TEXT", help="What it is called there.  [default: NAME]"),
        labels_option,
        click.option("--folder", metavar="DIR", type=PATH, help="Whose files are sorted."),
        click.option("--to", metavar="DIR", type=PATH, help="Where sorted files go."),
        click.option(
            "--at", metavar="H:MM", type=_Time(), help="Daily at this time, not as files come."
        ),
        click.option(
            "--replace", is_flag=True, help="Replace selected text.  [default: not by labels]"
        ),
        click.option("--show", is_flag=True, help="Show the answer instead."),
        click.option("--home", metavar="DIR", type=PATH, help="Install below this home."),
        click.option("--into", metavar="DIR", type=PATH, help="Write it into this folder."),
    )


@click.group()
def command() -> None:
    """Put stored functions where macOS offers them, and take them away again.

    quick-action: replaces selected text with the answer, or shows it. finder: tags files with
    their labels. folder-action, launch-agent: sort the files of a folder by their labels.
    shortcut, raycast, alfred, applescript: text in, answer out.
    """


@command.command(cls=Command)
@_plan_options
@click.option("--yes", is_flag=True, help="Write without asking.")
@click.option("--force", is_flag=True, help="Replace what was changed by hand.")
@json_option
def install(request: Request, yes: bool, force: bool, as_json: bool) -> None:
    """Install the stored function NAME as something of macOS.

    What is written calls this paw-mlx by its absolute path, in its own environment. What was
    installed of NAME as the same is replaced. It asks before it writes outside of its own folder.
    """
    installing.check_place(request)
    plan = installing.plan(request)
    if installing.is_asked_for(plan) and not yes:
        _ask(plan)
    entry = installing.install(plan, force=force)
    steps = list(plan.steps)
    if not entry.called:
        steps += [f"On the Mac it is for: {line}" for line in system.commands(entry)]
    elif len(entry.files) > len(plan.files):  # what macOS made of it
        steps = steps[1:]
    if as_json:
        print_json(_record(entry) | {"steps": steps})
        return
    for path in entry.files:
        click.echo(f"wrote {printable(path)}")
    for step in steps:
        say(printable(step))


@command.command(cls=Command)
@_plan_options
@json_option
def show(request: Request, as_json: bool) -> None:
    """Print what `install` would write, and write nothing."""
    paths = installing.plan(request).paths()
    texts = {path: _readable(data) for path, data in paths.items()}
    if as_json:
        print_json({"files": {str(path): text for path, text in texts.items()}})
        return
    for path, text in texts.items():
        say(f"{printable(str(path))}:")
        print_data(text.removesuffix("\n") + "\n")


@command.command(cls=Command)
@json_option
def ls(as_json: bool) -> None:
    """List what is installed, and what became of it since."""
    found = register.entries()
    if as_json:
        print_json({"installed": [_record(entry) for entry in found]})
        return
    if not found:
        say("nothing is installed; `paw-mlx mac install NAME --as quick-action` does that")
        return
    rows = [["NAME", "AS", "STATE", "WHERE"]]
    rows += [[e.reference, e.kind, _state(e), printable(e.place)] for e in found]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*cells, row[3]]))


@command.command(cls=Command)
@click.argument("name")
@click.option("--as", "kind", type=click.Choice(list(KINDS)), help="As this alone.  [default: all]")
@click.option("--yes", is_flag=True, help="Remove without asking.")
@click.option("--force", is_flag=True, help="Remove what was changed by hand, too.")
@json_option
def remove(name: str, kind: str | None, yes: bool, force: bool, as_json: bool) -> None:
    """Remove what was installed of NAME, and nothing else."""
    if not yes:
        for entry in installing.chosen_of(register.entries(), name, kind):
            say(f"{entry.kind}: {printable(entry.place)}")
        _confirm(f"Remove {name}?", f"not removing {name} without being told to")
    removed = installing.remove(name, kind, force=force)
    if as_json:
        print_json({"removed": [_record(entry) for entry in removed]})
        return
    for entry in removed:
        click.echo(f"removed {entry.reference} as {entry.kind}: {printable(entry.place)}")


@command.command(cls=Command, hidden=True)
@click.argument("file", type=PATH)
@click.argument("label")
@click.argument("labels", nargs=-1)
def tag(file: Path, label: str, labels: tuple[str, ...]) -> None:
    """Tag FILE with LABEL in Finder, in place of others of LABELS."""
    tags.tag(file, label, labels)


def _ask(plan: Plan) -> None:
    for path, data in plan.paths().items():
        say(f"{printable(str(path))} ({counted(len(data), 'byte')})")
    request = plan.request
    _confirm(
        f"Write that for {request.reference} as {request.kind}?",
        f"not writing {plan.place} without being told to",
    )


def _confirm(question: str, refusal: str) -> None:
    if not sys.stdin.isatty():
        raise OptionError(refusal, hint="Add --yes.")
    click.confirm(question, abort=True, err=True)


def _readable(data: bytes) -> str:
    """Return a file's text; of a binary property list, the same as XML."""
    if data.startswith(b"bplist"):
        import plistlib

        data = plistlib.dumps(plistlib.loads(data), sort_keys=False)
    return data.decode()


def _state(entry: register.Entry) -> str:
    return "changed" if entry.changed() else "gone" if entry.missing() else "as written"


def _record(entry: register.Entry) -> dict[str, Any]:
    return {
        "name": entry.reference,
        "as": entry.kind,
        "title": entry.title,
        "place": entry.place,
        "files": list(entry.files),
        "state": _state(entry),
    }
