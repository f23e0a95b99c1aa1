"""`paw-mlx daemon`: functions that stay in memory, for every script."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ..files import disk_errors, exists
from ..words import counted
from .command import Command
from .common import print_data, print_json, table
from .options import FiniteRange, json_option
from .voice import say

IDLE_S = 600.0
_LOOK_S = 0.2  # between two looks at a log that is followed

idle_option = click.option(
    "--idle", "idle_s", metavar="SECONDS", type=FiniteRange(min=1), default=IDLE_S,
    show_default=True, help="A base leaves memory after so long without a call.",
)  # fmt: skip


@click.group()
def command() -> None:
    """Keep functions in memory, so that a call takes milliseconds.

    While the daemon runs, `run`, `map`, `filter`, `test` and others use it, with the same outputs;
    --local, or PAW_MLX_DAEMON=off, does without it. Only processes of the same user may call.
    """


@command.command(cls=Command)
@idle_option
def start(idle_s: float) -> None:
    """Start the daemon in the background."""
    from ..serving.daemon import lifetime

    _say_started(lifetime.start(idle_s))


@command.command(cls=Command)
def stop() -> None:
    """Let the daemon finish its calls, and end it."""
    from ..serving.daemon import lifetime

    click.echo("stopped" if lifetime.stop() else "no daemon runs")


@command.command(cls=Command)
@idle_option
def restart(idle_s: float) -> None:
    """Stop the daemon if one runs, and start another."""
    from ..serving.daemon import lifetime

    lifetime.stop()
    _say_started(lifetime.start(idle_s))


@command.command(cls=Command)
@json_option
def status(as_json: bool) -> None:
    """Show what the daemon holds and does; exit with 1 if none runs."""
    from ..client.connection import ask_status
    from ..client.wire import find

    wire = find()
    if wire is None:
        if as_json:
            print_json({"running": False})
        else:
            click.echo("no daemon runs (`paw-mlx daemon start` starts one)")
        raise click.exceptions.Exit(1)
    found = ask_status(wire)
    if as_json:
        print_json({"running": True} | found)
        return
    since, size = _time(found["seconds"]), found["active_bytes"] / 1e6
    click.echo(
        f"process {found['pid']} for {since}, version {found['version']}, on {found['device']}\n"
        f"{counted(found['num_clients'] - 1, 'client')}, {counted(found['num_calls'], 'call')}, "
        f"{found['num_running']:,} running, {size:,.1f} MB of arrays"
    )
    if rows := [_row(base) for base in found["bases"]]:
        click.echo("\n" + table([["base", "state", "calls"], *rows]))


@command.command(cls=Command)
@click.option(
    "-n", "--lines", type=click.IntRange(1), default=20, show_default=True,
    help="How many of its lines.",
)  # fmt: skip
@click.option("-f", "--follow", is_flag=True, help="Go on until interrupted.")
def logs(lines: int, follow: bool) -> None:
    """Show the end of the daemon's log, which has nobody's inputs."""
    from ..client.places import log_path

    path = log_path()
    if not exists(path):
        say(f"there is no log yet ({path})")
        return
    for line in _tail(path, lines, follow):
        print_data(line)


@command.command(cls=Command)
@idle_option
def install(idle_s: float) -> None:
    """Have launchd or systemd start the daemon when somebody calls.

    It costs nothing while nobody does: the daemon ends, and the next call starts it again.
    """
    from ..serving.daemon import activation

    for path in activation.install(idle_s):
        click.echo(f"wrote {path}")


@command.command(cls=Command)
def uninstall() -> None:
    """Take back what `install` did."""
    from ..serving.daemon import activation

    removed = activation.uninstall()
    for path in removed:
        click.echo(f"removed {path}")
    if not removed:
        say("nothing was installed")


@command.command(cls=Command)
@idle_option
def run(idle_s: float) -> None:
    """Be the daemon, in the foreground."""
    from ..serving.daemon import lifetime

    lifetime.run(idle_s)


def _tail(path: Path, lines: int | None, follow: bool) -> Iterator[str]:
    """Yield the last lines of a log, and those that come, also when it is begun anew."""
    while True:
        with disk_errors(f"read {path}"), path.open(encoding="utf-8", errors="replace") as file:
            yield from deque(file, lines)
            here = os.fstat(file.fileno())
            while follow and exists(path) and os.path.samestat(here, path.stat()):
                yield from file
                time.sleep(_LOOK_S)
            yield from file
        if not follow:
            return
        lines = None  # all of the one after it


def _say_started(found: dict[str, Any]) -> None:
    click.echo(f"started, process {found['pid']}, version {found['version']}")


def _row(base: dict[str, Any]) -> list[str]:
    state = f"in memory, idle for {_time(base['idle_s'])}" if base["loaded"] else "not in memory"
    return [base["reference"], state, f"{base['num_calls']:,}"]


def _time(seconds: float) -> str:
    """Return seconds as people say them: `4 s`, `12 min`, `3 h`."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
