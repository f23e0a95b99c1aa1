"""`paw-mlx jobs`: what goes on in the background."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from datetime import datetime

import click

from .. import jobs
from ..jobs import Job
from .command import Command
from .common import print_json, print_text, table
from .options import json_option
from .voice import say

_GO_ON = ("interrupted", "stopped", "failed")


class _Group(click.Group):
    """Jobs are listed where no command is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and not {"-h", "--help"} & set(args)):
            args = ["ls", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Group)
def command() -> None:
    """Show the work that goes on in the background: all jobs, or one.

    A job outlives its terminal. After a kill or a reboot it goes on from its checkpoint: by itself
    on a Mac, at the next login, and elsewhere with `paw-mlx jobs resume ID`.
    """


@command.command(cls=Command)
@json_option
def ls(as_json: bool) -> None:
    """List the jobs, the newest first."""
    found = jobs.entries()
    if as_json:
        print_json({"jobs": [_record(job) for job in found]})
        return
    if not found:
        say("there are no jobs; `paw-mlx tune NAME --background` makes one")
        return
    rows = [[job.id, job.state, _date(job.started), shlex.join(job.argv)] for job in found]
    click.echo(table([["job", "state", "started", "command"], *rows]))
    for job in found:
        if job.state == "interrupted":
            say(f"{job.id} was interrupted: go on with `paw-mlx jobs resume {job.id}`")


@command.command(cls=Command)
@click.argument("id")
@click.option(
    "-n", "--lines", type=click.IntRange(0), default=20, show_default=True, help="Of its log."
)
@json_option
def show(id: str, lines: int, as_json: bool) -> None:
    """Show the job ID, and the end of what it printed."""
    job = jobs.read(id)
    log = jobs.tail(job, lines)
    if as_json:
        print_json(_record(job) | {"lines": log})
        return
    code = f" (exit code {job.exit_code})" if job.state == "failed" else ""
    print_text(f"{job.id}: {job.state}{code}, started {_date(job.started)} in {job.cwd}")
    print_text(f"$ paw-mlx {shlex.join(job.argv)}")
    for line in log:
        print_text(line)
    say(f"the whole log: {job.log}")
    if job.state in _GO_ON:
        say(f"go on with `paw-mlx jobs resume {job.id}`")


@command.command(cls=Command)
@click.argument("id")
@json_option
def resume(id: str, as_json: bool) -> None:
    """Go on with the job ID from its checkpoint."""
    job = jobs.resume(id)
    if as_json:
        print_json(_record(job))
    else:
        click.echo(f"{id} goes on in the background")


@command.command(cls=Command)
@click.argument("id")
@json_option
def stop(id: str, as_json: bool) -> None:
    """Stop the job ID; it can be resumed."""
    jobs.stop(id)
    if as_json:
        print_json(_record(jobs.read(id)))
    else:
        click.echo(f"stopped {id}; `paw-mlx jobs resume {id}` goes on")


@command.command(cls=Command)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@json_option
def rm(ids: tuple[str, ...], as_json: bool) -> None:
    """Remove jobs, with their logs and checkpoints."""
    for id in ids:
        jobs.remove(id)
    if as_json:
        print_json({"removed": list(ids)})
    else:
        click.echo(f"removed {', '.join(ids)}")


@command.command(cls=Command, hidden=True)
@click.argument("id")
def run(id: str) -> None:
    """Do the work of the job ID in this process, unless another does."""
    from . import run_words

    def call(argv: list[str]) -> int:
        say(f"{datetime.now():%Y-%m-%d %H:%M:%S}  $ paw-mlx {shlex.join(argv)}")
        sys.argv[1:] = argv
        return run_words(argv)

    raise click.exceptions.Exit(jobs.run(id, call) or 0)


def _date(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"


def _record(job: Job) -> dict[str, object]:
    return asdict(job) | {"log": str(job.log)}
