"""What a command is here: how its errors are shown, and how it is found by its name."""

from __future__ import annotations

import importlib
import json
import warnings
from functools import partial
from typing import Any

import click
from click.shell_completion import CompletionItem

from ..errors import PawError
from .common import hear
from .voice import say, status


class Failure(click.ClickException):
    """A PawError as the command line shows it."""

    exit_code = 1

    def __init__(self, error: PawError, as_json: bool, among_rows: bool) -> None:
        super().__init__(str(error))
        self.error, self.as_json, self.among_rows = error, as_json, among_rows

    def show(self, file: Any = None) -> None:
        """Print `error:` and `hint:` lines, or JSON, which goes to stderr where rows went out."""
        if self.as_json:
            text = json.dumps({"error": self.error.record()})
            try:
                (say if self.among_rows else click.echo)(text)
            except PawError:  # the error is that nothing can be printed
                say(text)
            return
        say(str(self.error), "error:", fg="red", bold=True)
        for hint in self.error.hints:
            say(hint, "hint:", fg="cyan")


class Command(click.Command):
    """A command whose PawErrors become `error:` and `hint:` lines, or JSON with --json.

    Warnings, ours and others', become `warning:` lines on a terminal, and part of the JSON.
    """

    prints_rows = False  # which are all that belongs on stdout

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Failure for a PawError."""
        try:
            with warnings.catch_warnings():
                warnings.showwarning = partial(_show_warning, ctx)
                return super().invoke(ctx)
        except PawError as error:
            raise Failure(error, bool(ctx.params.get("as_json")), self.prints_rows) from error


class RowCommand(Command):
    """A command that prints rows."""

    prints_rows = True


class LazyGroup(click.Group):
    """Commands with their help, each imported from a module of its own when it is called."""

    def __init__(self, *args: Any, lazy: dict[str, str], prefix: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy, self._prefix = lazy, prefix

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in their order."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of that name."""
        if cmd_name not in self._lazy:
            return None
        module = self._prefix + cmd_name.replace("-", "_")
        return importlib.import_module(f".{module}", __package__).command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command's name without importing any, or an option."""
        commands = [
            CompletionItem(name, help=about)
            for name, about in self._lazy.items()
            if name.startswith(incomplete)
        ]
        return commands + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write every command's help without importing it."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._lazy.items()))


def _show_warning(context: click.Context, message: Warning | str, *where: Any, **more: Any) -> None:
    hear(context, message)
    status(str(message), "warning:", fg="yellow", bold=True)
