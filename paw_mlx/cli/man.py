"""The man page of `paw-mlx`, made of what `--help` says.

`python -m paw_mlx.cli.man` writes `paw-mlx.1` beside this module; the wheel puts it in
share/man/man1.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from .. import settings
from . import COMMANDS, cli

PAGE = Path(__file__).with_name("paw-mlx.1")

_EXAMPLES = {
    "Give a program a name, and run it:": (
        "paw-mlx pull examples/log-triage/program.paw --as log-triage\n"
        'paw-mlx run log-triage "raid: disk 3 failed"'
    ),
    "Watch a log:": "tail -f app.log | paw-mlx filter log-triage --keep ALERT",
    "Label the rows of a table, and go on after a break:": (
        "paw-mlx map email-triage mails.csv --field subject -o triaged.csv\n"
        "paw-mlx map email-triage mails.csv --field subject -o triaged.csv --resume"
    ),
}
_EXIT_STATUS = {"0": "done", "1": "an error", "2": "a wrong call", "130": "interrupted"}
_DESCRIPTION = """\
A *program*, a prompt and a LoRA, is a function from text to text. It is compiled from an English
description, or trained on examples, and runs on a small base model on this machine.

Standard output carries the result and nothing else; status and errors go to standard error. All
commands take `--help`; with `--json` they print JSON, and their errors are JSON, too."""


def page() -> str:
    """Return the page, in man(7)."""
    top = click.Context(cli, info_name="paw-mlx", **cli.context_settings)
    sections = {
        "NAME": ["paw\\-mlx \\- run fuzzy functions, compiled to small programs, offline"],
        "SYNOPSIS": [r"\fBpaw\-mlx\fR [\fB\-\-version\fR] [\fB\-\-help\fR] \fICOMMAND\fR ..."],
        "DESCRIPTION": _text(_DESCRIPTION),
        "COMMANDS": _listed({f"`{name}`": about for name, about in COMMANDS.items()}),
        "COMMANDS IN DETAIL": _commands(cli, top),
        "EXIT STATUS": _listed(_EXIT_STATUS),
        "ENVIRONMENT": _environment(),
        "EXAMPLES": [
            line
            for text, lines in _EXAMPLES.items()
            for line in (".PP", _roff(text), ".PP", ".in +4n", ".nf", _roff(lines), ".fi", ".in")
        ][1:],
    }
    head = [
        r".\" Made by `python -m paw_mlx.cli.man`: do not edit.",
        '.TH PAW\\-MLX 1 "" paw\\-mlx',
    ]
    lines = [line for name, body in sections.items() for line in (f'.SH "{name}"', *body)]
    return "\n".join([*head, *lines]) + "\n"


def _commands(group: click.Group, context: click.Context) -> Iterator[str]:
    """Yield the lines of every command of a group, and of the groups in it."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        if command.hidden:
            continue
        inside = click.Context(command, info_name=name, parent=context)
        yield f'.SS "{_roff(inside.command_path)}"'
        usage = _roff(" ".join(command.collect_usage_pieces(inside)))
        yield from (rf"\fB{_roff(inside.command_path)}\fR {usage}", ".PP")
        yield from _text(command.help or "")
        yield from _listed(dict(_options(command, inside)))
        if isinstance(command, click.Group):
            yield from _commands(command, inside)


def _options(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record and "--help" not in parameter.opts:
            yield record


def _environment() -> Iterator[str]:
    """Yield what the variables mean, as `settings` says it."""
    variables, *prose = inspect.cleandoc(settings.__doc__ or "").split("\n\n")[1:]
    lines = re.sub(r"\n {6,}", " ", variables).splitlines()
    yield from _listed(dict(re.split(r"  +", line.strip(), maxsplit=1) for line in lines))
    yield from (".PP", *_text("\n\n".join(prose)))


def _listed(entries: dict[str, str]) -> Iterator[str]:
    for head, text in entries.items():
        marked = re.sub(r"(?<!\S)(-[\w-]+|[A-Z_]{5,}$|\d+$)", r"`\1`", head)
        yield from (".TP", _roff(marked), *_text(text or head))


def _text(text: str) -> Iterator[str]:
    """Yield paragraphs as lines of at most 78 characters."""
    for number, paragraph in enumerate(inspect.cleandoc(text).split("\n\n")):
        if number:
            yield ".PP"
        words = _roff(" ".join(paragraph.split()))
        lines = textwrap.wrap(words, 78, break_long_words=False, break_on_hyphens=False)
        yield from (rf"\&{line}" if line[0] in ".'" else line for line in lines)


def _roff(text: str) -> str:
    """Return text as roff reads it: `code` is bold, *words* are italic, all else is itself."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", text)
    text = re.sub(r"\*(\w[^*]*)\*", r"\\fI\1\\fR", text)
    return "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in text)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="ascii")
