"""The server: uvicorn, and what it lacks on connections.

Of connections that have not yet said what they want, each may be silent for a while only; when
there are too many, the oldest of them is dropped for the new one, so that thousands that open and
say nothing keep nobody out. One that does not take its answer is dropped, too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, h11

from ...errors import OptionError
from .app import make_app
from .state import State

_SPARE_FILES = 256  # that are not connections, and those that are accepted at one go
_BACKLOG = 256


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address; OptionError where none can."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return socket.create_server(
            address[:2], family=family, backlog=_BACKLOG, dualstack_ipv6=host == "::"
        )
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno:
            reason = os.strerror(error.errno)  # without the address, which is said anyway
        raise OptionError(
            f"cannot listen at {host}, port {port}: {reason}",
            hint="Name another with --host or --port; port 0 is any that is free.",
        ) from error


def serve(state: State, listener: socket.socket, started: Callable[[], None]) -> None:
    """Answer requests until SIGTERM or SIGINT, and then those that are there; a second ends all.

    `started` is called when the first can be answered. KeyboardInterrupt after SIGINT.
    """
    # uvicorn raises a signal again when it has ended, and that shall not kill.
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        Server(state, started).run([listener])
    finally:
        signal.signal(signal.SIGTERM, before)


class Server(uvicorn.Server):
    """uvicorn's, which says when it has started, and lets streams of events end with it."""

    def __init__(self, state: State, started: Callable[[], None]) -> None:
        limits = state.limits
        connections = Connections(state, _allow_files(limits.connections))
        config = uvicorn.Config(
            make_app(state),
            loop="asyncio",
            http=connections.protocol(),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=max(int(limits.header_s) - 1, 1),  # a good end, before ours
            timeout_graceful_shutdown=int(limits.grace_s),
        )
        super().__init__(config)
        self._state, self._started = state, started
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # not every bad request

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        self._started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what was asked before, and end."""
        self._state.closing = True
        await super().shutdown(sockets)


class Connections:
    """The connections of a server: at most so many, and those that wait in their order."""

    def __init__(self, state: State, most: int) -> None:
        self.state, self.most, self.num_open = state, most, 0
        self.waiting: OrderedDict[Connection, None] = OrderedDict()

    def protocol(self) -> type[asyncio.Protocol]:
        """Return the class of this server's connections, as uvicorn makes them."""
        connections = self

        class Bound(Connection):
            def __init__(self, *args: Any, **keywords: Any) -> None:
                super().__init__(connections, *args, **keywords)

        return Bound


class Connection(H11Protocol):
    """A connection that is dropped when it is silent for too long, or takes nothing."""

    def __init__(self, connections: Connections, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._all, self._limits = connections, connections.state.limits
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request; where there are too many, the oldest that waits goes."""
        super().connection_made(transport)
        self._all.num_open += 1
        self._all.state.metrics.add("paw_connections_open")
        self._wait()
        if self._all.num_open > self._all.most:
            next(iter(self._all.waiting)).drop("too_many")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        super().connection_lost(exc)
        self._stop_waiting()
        if self._writing:
            self._writing.cancel()
        self._all.num_open -= 1
        self._all.state.metrics.add("paw_connections_open", -1)

    def handle_events(self) -> None:
        """Take what has come; a request whose head is whole ends the wait."""
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, even amid a body: then its request gets no other answer."""
        if self.cycle is not None:
            self.cycle.disconnected = True  # for it, the client is gone
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:  # an answer is under way, or was given
            self.transport.abort()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request, or for the rest of this one's body to be passed."""
        self._wait()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Wait, for some time, until the client takes what was written."""
        super().pause_writing()
        self._writing = self.loop.call_later(self._limits.write_s, self.drop, "slow_reader")

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        if self._writing:
            self._writing.cancel()

    def drop(self, reason: str) -> None:
        """End it at once, whatever is left to be written."""
        self._all.state.metrics.add("paw_connections_dropped_total", reason=reason)
        self._stop_waiting()
        self.transport.abort()

    def _wait(self) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(self._limits.header_s, self.drop, "silent")
        self._all.waiting[self] = None

    def _stop_waiting(self) -> None:
        self._all.waiting.pop(self, None)
        if self._timer:
            self._timer.cancel()
            self._timer = None


def _allow_files(wanted: int) -> int:
    """Let this process open enough files for so many connections; return for how many it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    goal = wanted + _SPARE_FILES + _BACKLOG
    if soft != resource.RLIM_INFINITY and soft < goal:
        soft = goal if hard == resource.RLIM_INFINITY else min(goal, hard)
        with suppress(ValueError, OSError):  # macOS: hard may be more than the system gives
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(min(wanted, soft - _SPARE_FILES - _BACKLOG), 16)
