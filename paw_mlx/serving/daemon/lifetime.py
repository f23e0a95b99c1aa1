"""One daemon for a user and a data folder: how it begins, and how it is known to be there.

Its process holds the lock `daemon.lock` while it lives, so a socket without a process is known to
be stale, and two daemons begun at once are one.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import subprocess
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...client import places
from ...client.connection import ask_status
from ...client.wire import find
from ...errors import DaemonError, DriftWarning, OptionError
from ...files import disk_errors, exists
from ...locks import lock
from ...mac import launchd
from . import activation
from .log import Log
from .server import Server

_START_S = 60.0
_STOP_S = 90.0
_LEAVE_S = 10.0  # for one that was asked to leave
_MAX_OPEN = 4096
LEAVE_S = 60.0  # activated by the system: without clients and bases it goes, and comes again


def run(idle_s: float) -> None:
    """Be the daemon, until it is stopped. OptionError if one runs already."""
    folder = places.make_folder()
    path = folder / "daemon.lock"
    with disk_errors(f"write {path}"), path.open("ab") as held:
        try:
            lock(held, path, wait=False)
        except BlockingIOError:
            raise OptionError(
                "a daemon runs already", hint="`paw-mlx daemon status` shows it."
            ) from None
        held.truncate(0)
        held.write(f"{os.getpid()}\n".encode())
        held.flush()
        given = activation.sockets()
        listener = given[0] if given else _bind(places.socket_path())
        is_there = _watched(Path(listener.getsockname()))
        _allow_many_files()
        warnings.simplefilter("ignore", DriftWarning)  # its clients are told, each of its own
        with disk_errors(f"write {places.log_path()}"):
            log = Log(places.log_path())
        try:
            leave_s = LEAVE_S if given else None
            server = Server(folder, log, idle_s=idle_s, leave_s=leave_s, is_there=is_there)
            asyncio.run(server.serve(listener))
        finally:
            if not given and is_there():
                with suppress(OSError):
                    places.socket_path().unlink()
            log.close()


def start(idle_s: float) -> dict[str, Any]:
    """Start the daemon in the background, and return its status once it answers.

    OptionError if one runs already, DaemonError if it does not begin.
    """
    _refuse_second()
    places.make_folder()
    deadline = time.monotonic() + _LEAVE_S
    while pid := holder():
        if time.monotonic() > deadline:
            raise OptionError(
                f"a daemon that does not answer here runs already, process {pid}",
                hint="It may be of another version or device: `paw-mlx daemon stop` ends it.",
            )
        time.sleep(0.02)
    command = launchd.command("daemon", "run", "--idle", f"{idle_s:g}")
    deadline = time.monotonic() + _START_S
    with disk_errors(f"write {places.log_path()}"), places.log_path().open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    while process.poll() is None and time.monotonic() < deadline:
        if wire := find():
            process.returncode = 0  # it is left alone: nobody waits for it
            return ask_status(wire)
        time.sleep(0.02)
    process.kill()
    _refuse_second()  # which another `start` began at the same time
    raise DaemonError(
        f"the daemon did not begin: its exit code is {process.wait()}",
        hint=f"See {places.log_path()}.",
    )


def _refuse_second() -> None:
    """Raise OptionError if a daemon answers."""
    if wire := find():
        raise OptionError(f"a daemon runs already, process {ask_status(wire)['pid']}")


def stop() -> bool:
    """Have the daemon finish its calls and end, and return when it has: False if none runs.

    One that does not end is killed. DaemonError if even that does not help.
    """
    pid = holder()
    if pid is None:
        return False
    _signal(pid, signal.SIGTERM)
    _signal(pid, signal.SIGCONT)  # or one that was stopped would not hear of it
    deadline = time.monotonic() + _STOP_S
    while holder() == pid:
        if time.monotonic() > deadline:
            _signal(pid, signal.SIGKILL)
            if time.monotonic() > deadline + _STOP_S / 10:
                raise DaemonError(f"the daemon did not stop: process {pid} is still there")
        time.sleep(0.02)
    return True


def holder() -> int | None:
    """Return the process of the daemon, whether or not it answers; None if none lives."""
    path = places.folder() / "daemon.lock"
    if not exists(path):
        return None
    with disk_errors(f"read {path}"), path.open("rb") as file:
        try:
            lock(file, path, wait=False)
        except BlockingIOError:
            return int(file.read() or 0) or None
    return None


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _watched(path: Path) -> Callable[[], bool]:
    """Return what tells whether the same socket is still at a path."""

    def look() -> tuple[int, int] | None:
        with suppress(OSError):
            info = path.lstat()
            return info.st_dev, info.st_ino
        return None

    first = look()
    return lambda: look() == first


def _bind(path: Path) -> socket.socket:
    """Listen at a path; whatever was there is stale, since we hold the lock."""
    with disk_errors(f"remove {path}"):
        path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        with disk_errors(f"listen at {path}"):
            listener.bind(str(path))
            listener.listen(1024)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener


def _allow_many_files() -> None:
    """Let this process have as many connections as it accepts: launchd's limit is 256."""
    with suppress(OSError, ValueError):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = _MAX_OPEN if hard == resource.RLIM_INFINITY else min(_MAX_OPEN, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
