"""The daemon's loop: clients come and go, idle bases are unloaded, and it ends well."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...client.places import peer_uid
from ...client.protocol import HELLO
from ...device import active_bytes
from ...device import name as device_name
from ..residents import Residents
from ..room import HELD_BYTES, Room
from .log import Log
from .programs import Programs
from .requests import House
from .session import Session
from .threads import Threads

_MAX_CLIENTS = 2000
_SPARE_FILES = 200  # open besides its clients' connections
_BACKLOG = 128
_THREADS = 32
_STREAMS = 64
_FEW = 2
_LOOK_S = 1.0


class Server:
    """One daemon: `serve` returns when it was stopped, or nobody came for `leave_s`.

    A base leaves memory after `idle_s` without a call. It stops, too, when its socket is not there
    any more: nobody could reach it. A worker does without a socket: it has one client to `attend`.
    Of all its clients' calls it holds `held_bytes` at once; more wait where they are.
    """

    def __init__(
        self,
        folder: Path,
        log: Log,
        *,
        idle_s: float | None = None,
        leave_s: float | None = None,
        is_there: Callable[[], bool] = lambda: True,
        held_bytes: int = HELD_BYTES,
    ) -> None:
        self._log, self._leave_s, self._is_there = log, leave_s, is_there
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._max_clients = min(_MAX_CLIENTS, max(1, files - _BACKLOG - _SPARE_FILES))
        self._began = self._last = time.monotonic()
        self._stopping = asyncio.Event()
        self._sessions: set[Session] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._house = House(
            Residents(idle_s, watch=False),
            Programs(folder / "programs"),
            Threads(_THREADS, "paw-mlx-call"),
            Threads(_FEW, "paw-mlx-long"),
            Threads(_STREAMS, "paw-mlx-stream"),
            Room(held_bytes),
            log,
            self._status,
            self._stopping.set,
        )

    async def serve(self, listener: socket.socket) -> None:
        """Answer clients until it is stopped (a request, SIGTERM, SIGINT); then end calls."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        # The socket is removed by whoever made it, also where Python (3.13) would.
        kept: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
        server = await asyncio.start_unix_server(
            self._accept, sock=listener, backlog=_BACKLOG, **kept
        )
        self._log("started", pid=os.getpid(), version=HELLO["version"])
        ticking = loop.create_task(self._tick())
        await self._stopping.wait()
        server.close()
        ticking.cancel()
        await self.end()
        self._log("stopped", calls=self._house.num_calls)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._attend(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Attend to a client of this user; others, and too many, are hung up on."""
        uid = -1
        with suppress(OSError):
            uid = peer_uid(writer.get_extra_info("socket"))
        if uid != os.getuid() or len(self._sessions) >= self._max_clients:
            self._log("refused", uid=uid, clients=len(self._sessions))
            writer.close()
            return
        await self._talk(reader, writer)

    async def attend(self, connection: socket.socket) -> None:
        """Answer one client, who is connected already, until it hangs up."""
        await self._talk(*await asyncio.open_unix_connection(sock=connection))

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(self._house, reader, writer)
        self._sessions.add(session)
        try:
            await session.run()
        finally:
            self._sessions.discard(session)
            self._last = time.monotonic()

    async def _tick(self) -> None:
        """Unload what nobody calls; end where nobody has come for long, and nothing is loaded."""
        residents = self._house.residents
        while True:
            await asyncio.sleep(_LOOK_S)
            for reference in await self._house.threads.call(residents.unload_idle):
                self._log("unloaded", base=reference, bytes=active_bytes())
            empty = not self._sessions and not any(base.loaded for base in residents.bases)
            waited = time.monotonic() - self._last
            left = self._leave_s is not None and empty and waited > self._leave_s
            if left or not self._is_there():
                self._stopping.set()

    async def end(self) -> None:
        """Let calls end, then hang up and give the memory back."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for threads in (self._house.threads, self._house.few, self._house.streams):
            threads.end()
        self._house.residents.close()
        self._house.programs.clear()

    def _status(self) -> dict[str, Any]:
        bases = [
            {
                "reference": base.reference,
                "loaded": base.loaded,
                "idle_s": round(base.idle_s, 1),
                "num_calls": base.num_calls,
            }
            for base in self._house.residents.bases
        ]
        return {
            "pid": os.getpid(),
            "version": HELLO["version"],
            "device": device_name(),
            "seconds": round(time.monotonic() - self._began, 1),
            "bases": bases,
            "num_clients": len(self._sessions),
            "num_running": sum(len(session.calls) for session in self._sessions),
            "num_calls": self._house.num_calls,
            "active_bytes": active_bytes(),
        }
