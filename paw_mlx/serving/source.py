"""Functions for what is served: the daemon's while it runs, else this process's own."""

from __future__ import annotations

import threading
import time
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from .. import hub
from ..client.connection import base_record
from ..client.contents import Contents
from ..client.link import Link
from ..client.protocol import BASE
from ..client.runner import DaemonRunner
from ..client.wire import find_wanted
from ..errors import DaemonError, FormatError
from ..functions import Function
from ..program import Program
from .residents import Residents

_REST = 10  # times what a look for a daemon took pass until the next one: it may hang


class Functions(Protocol):
    """Whoever gives functions: `Residents`, `Source`, or the daemon's client."""

    def function(self, program: Any, **keywords: Any) -> Function: ...


class Source:
    """Functions by reference, as `Residents` has them. Safe from any thread.

    One connection to the daemon serves all of them. A call under way when the daemon goes away
    fails with DaemonError; the next is computed here, and by a new daemon once there is one.
    """

    def __init__(self, idle_s: float | None = None) -> None:
        self._here = Residents(idle_s)
        self._link: Link | None = None
        self._next_look = 0.0  # time.monotonic()
        self._runners: WeakKeyDictionary[Program, list[DaemonRunner]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def function(self, program: str | Program, **keywords: Any) -> Function:
        """Return a function as `paw_mlx.function` does, with its keywords and its errors."""
        link = self._connect()
        if link is not None:
            try:
                return self._remote(link, program, dict(keywords))
            except FormatError:  # no message holds it; where it is damaged, that shows again
                pass
            except DaemonError:
                if link.lost is None:
                    raise
        return self._here.function(program, **keywords)

    def close(self) -> None:
        """Hang up, and give the memory back."""
        with self._lock:
            if self._link:
                self._link.close()
        self._here.close()

    def _connect(self) -> Link | None:
        """Return the connection to the daemon, a new one if it was lost; None without one."""
        with self._lock:
            if self._link and self._link.lost is None:
                return self._link
            self._link = None
            self._runners.clear()
            if (begin := time.monotonic()) >= self._next_look:
                if wire := find_wanted():
                    self._link = Link(wire)
                end = time.monotonic()
                self._next_look = end + _REST * (end - begin)
            return self._link

    def _remote(self, link: Link, program: str | Program, keywords: dict[str, Any]) -> Function:
        base = base_record({name: keywords.pop(name, None) for name in BASE})
        if isinstance(program, Program):
            found = program
        else:
            offline = bool(base.get("offline"))
            path = hub.resolve_program(program, offline=offline)
            contents = Contents.of_file(path) if path.is_file() else None  # before it is read
            found = self._here.program(str(path.absolute()))
            if contents:
                link.keep(found, contents)
        made = self._here.typed(found, keywords)
        with self._lock:
            runners = self._runners.setdefault(made, [])
        for runner in runners:
            if runner.settings == base:
                return Function(runner, made)
        runner = DaemonRunner(link, base)
        runner.open(made)
        runners.append(runner)
        return Function(runner, made)
