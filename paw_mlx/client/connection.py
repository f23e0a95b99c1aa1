"""`connect`: functions that the daemon computes."""

from __future__ import annotations

import re
from collections.abc import Callable
from os import PathLike
from typing import Any
from weakref import finalize

from .. import formats, hub, settings
from ..annotations import output_of, retype
from ..errors import DaemonError
from ..functions import Function
from ..output import Regex
from ..program import Program
from ..progress import Progress, quiet
from ..runner import Runner
from .contents import Contents
from .link import Link
from .places import absolute
from .runner import DaemonRunner
from .wire import Wire, find

_STATUS_S = 20.0  # for a daemon to say what it does


class Daemon:
    """The daemon of this user: its functions cost what their calls cost, and load nothing here."""

    def function(
        self,
        program: str | PathLike[str] | Program,
        *,
        labels: object = None,
        schema: object = None,
        regex: str | re.Pattern[str] | Regex | None = None,
        threshold: float | None = None,
        otherwise: str | None = None,
        interpreter: str | None = None,
        bits: int | None = None,
        group_size: int = 64,
        strict: bool = False,
        offline: bool = False,
        progress: Progress = quiet,
    ) -> Function:
        """Return a function as `paw_mlx.function` does, with its arguments and its errors.

        DaemonError if the daemon has gone, also from its calls.
        """
        output = output_of(labels, schema, regex)
        wishes = {"threshold": threshold, "otherwise": otherwise}
        base = {"interpreter": interpreter, "bits": bits, "group_size": group_size}
        base |= {"strict": strict, "offline": offline}
        return open_function(_require(), program, output, wishes, base, progress)

    def status(self) -> dict[str, Any]:
        """Return what the daemon says of itself: its process, its bases in memory, its calls."""
        return ask_status(_require())


def connect() -> Daemon:
    """Return the running daemon, whose `function` is as `paw_mlx.function`.

    DaemonError if none runs, or it is another user's.
    """
    _require().close()
    return Daemon()


def open_function(
    wire: Wire,
    program: str | PathLike[str] | Program,
    output: Any,
    wishes: dict[str, Any],
    base: dict[str, Any],
    progress: Progress = quiet,
    local: Callable[[Program], Runner] | None = None,
) -> Function:
    """Return a function on a connection, which is its own: its runner's `close` hangs up.

    `local` makes a Runner of this process for the program, should the daemon go away.
    """
    link = Link(wire)
    try:
        loaded, contents = load_program(program, bool(base.get("offline")), progress)
        made = retype(loaded, output, **wishes)
        if contents:
            link.keep(made, contents)
        runner = DaemonRunner(link, base_record(base), local and (lambda: local(made)))
        runner.open(made)
    except BaseException:
        link.close()
        raise
    finalize(runner, link.close)
    return Function(runner, made)


def load_program(
    program: str | PathLike[str] | Program, offline: bool, progress: Progress
) -> tuple[Program, Contents | None]:
    """Load a program, and say where its bytes are, if a file has them as they are to be sent."""
    if isinstance(program, Program):
        return program, None
    path = hub.resolve_program(str(program), offline=offline, progress=progress)
    contents = Contents.of_file(path) if path.is_file() else None  # before it is read
    return formats.load(path), contents


def ask_status(wire: Wire) -> dict[str, Any]:
    """Return what a daemon says of itself, and hang up. DaemonError if it says nothing."""
    try:
        wire.socket.settimeout(_STATUS_S)
        wire.send({"op": "status", "id": 1})
        return dict(wire.receive()["status"])
    finally:
        wire.close()


def base_record(base: dict[str, Any]) -> dict[str, Any]:
    """Return which base to run on as the daemon is told it: it stands in another folder."""
    told = {name: value for name, value in base.items() if value not in (None, False)}
    if reference := base.get("interpreter"):
        told["interpreter"] = absolute(reference)
    if settings.offline():
        told["offline"] = True
    return told


def _require() -> Wire:
    wire = find()
    if wire is None:
        raise DaemonError("no daemon runs", hint="Start it: paw-mlx daemon start")
    return wire
