"""The command line: the only place that prints.

stdout carries the result and nothing else; progress, status and warnings go to stderr.
Exit codes: 0 done, 1 an error, 2 a wrong call, 130 interrupted.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import warnings
from typing import Any

import click

from ..errors import PawError
from .common import say, status

# command -> its module here; imported only when the command is called or listed.
COMMANDS = {
    "run": "Run a program on one input.",
    "map": "Run a program on every row of a file.",
    "filter": "Pass on the lines that a program gives a label.",
    "test": "Run a program on cases and report its accuracy.",
    "compile": "Compile an English spec to a program.",
    "train": "Make a program from input/output examples.",
    "inspect": "Show what a program or adapter holds, without loading a model.",
    "convert": "Convert an adapter, program or base to another layout.",
    "verify": "Compare what two artifacts compute.",
    "diff": "Show what changed between two programs.",
    "demo": "Watch example programs run on held-out inputs.",
    "pull": "Fetch a base, a compiler or a program to this machine.",
    "ls": "List what is on this machine.",
    "rm": "Remove some of it.",
    "rollback": "Make an earlier version of a program the current one.",
    "convert-compiler": "Convert a published compiler for MLX.",
    "bench": "Measure speed, memory and accuracy on this machine.",
    "doctor": "Check this machine, and say what is missing.",
}


def error_record(error: PawError) -> dict[str, Any]:
    """An error as JSON has it."""
    return {"error": {"code": type(error).__name__, "message": str(error), "hints": error.hints}}


class Failure(click.ClickException):
    """A PawError as the command line shows it."""

    exit_code = 1

    def __init__(self, error: PawError, as_json: bool, among_rows: bool) -> None:
        super().__init__(str(error))
        self.error, self.as_json, self.among_rows = error, as_json, among_rows

    def show(self, file: Any = None) -> None:
        if self.as_json:
            tell = say if self.among_rows else click.echo
            tell(json.dumps(error_record(self.error)))
            return
        say(f"{click.style('error:', fg='red', bold=True)} {self.error}")
        for hint in self.error.hints:
            say(f"{click.style('hint:', fg='cyan')} {hint}")


class Command(click.Command):
    """A command whose PawErrors become `error:` and `hint:` lines, or JSON with --json.

    Warnings, ours and others', become `warning:` lines.
    """

    prints_rows = False  # which are all that belongs on stdout

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except PawError as error:
            raise Failure(error, bool(ctx.params.get("as_json")), self.prints_rows) from error


class RowCommand(Command):
    """A command that prints rows."""

    prints_rows = True


def _show_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    status(f"{click.style('warning:', fg='yellow', bold=True)} {message}")


class LazyGroup(click.Group):
    """Commands with their help, each imported from a module of its own when it is called."""

    def __init__(self, *args: Any, lazy: dict[str, str], prefix: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy, self._prefix = lazy, prefix

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return None
        module = self._prefix + cmd_name.replace("-", "_")
        return importlib.import_module(f".{module}", __name__).command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self._lazy.items()))


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, errors too.")


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="paw-mlx")
def cli() -> None:
    """Run fuzzy functions, compiled to small programs, offline on this machine."""


def main() -> None:
    """The `paw-mlx` script."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by whoever started us, as cron may
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    try:
        code = cli.main(prog_name="paw-mlx", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
