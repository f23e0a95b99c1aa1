"""A connection to the daemon, as blocking calls: messages out, messages in."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from .. import settings
from ..errors import DaemonError, FormatError
from . import places
from .protocol import HEAD, HELLO, pack, sizes, unpack

_CONNECT_S = 2.0
_HELLO_S = 20.0  # where launchd starts it first


class Wire:
    """A socket on which messages are sent and received, each by one thread at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.daemon: dict[str, Any] = {}  # what it said of itself

    def send(self, message: Mapping[str, Any], body: bytes = b"") -> None:
        """Send a message with its bytes. DaemonError if nobody takes it."""
        self.send_packed(pack(message, len(body)))
        if body:
            self.send_packed(body)

    def send_packed(self, data: bytes) -> None:
        """Send bytes as they are. DaemonError if nobody takes them."""
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise gone() from error

    def receive(self) -> dict[str, Any]:
        """Return the next message. DaemonError if there will be none."""
        num_json, num_body = sizes(self._read(HEAD.size))
        message = unpack(self._read(num_json))
        self._read(num_body)
        return message

    def hang_up(self) -> None:
        """End what is said: the daemon cancels what runs, and threads that wait here hear of it."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hang up and close the socket; no other thread may be using it."""
        self.hang_up()
        self.socket.close()

    def _read(self, num_bytes: int) -> bytes:
        parts, left = list[bytes](), num_bytes
        while left:
            try:
                part = self.socket.recv(min(left, 1 << 20))
            except OSError as error:
                raise gone() from error
            if not part:
                raise gone()
            parts.append(part)
            left -= len(part)
        return b"".join(parts)


def find(path: Path | None = None) -> Wire | None:
    """Return a connection to the daemon, which has said hello; None if none runs, or it hangs.

    An older one is asked to leave, a newer one and one that computes on another device than this
    environment names (PAW_MLX_DEVICE) are left alone: None for all three.
    DaemonError if what lies there is not this user's; FormatError if it speaks otherwise.
    """
    path = path or places.socket_path()
    try:
        places.check_owner(path)
        connection = socket.socket(socket.AF_UNIX)
    except OSError as error:
        if isinstance(error, DaemonError):
            raise
        return None
    try:
        connection.settimeout(_CONNECT_S)
        _connect(connection, path)
        wire = Wire(connection)
        connection.settimeout(_HELLO_S)
        wire.send(HELLO)
        wire.daemon = wire.receive()
    except OSError:  # nobody listens, or it has just gone, or hangs
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise
    mine, theirs = _age(HELLO), _age(wire.daemon)
    if mine == theirs and settings.device() in (None, wire.daemon.get("device")):
        connection.settimeout(None)
        return wire
    with suppress(DaemonError):
        if theirs < mine:
            wire.send({"op": "stop", "id": 0})
            wire.receive()
    wire.close()
    return None


def _connect(connection: socket.socket, path: Path) -> None:
    """Connect, also where many do at once and have to queue. OSError if nobody listens.

    FormatError if it is another user who does.
    """
    deadline = time.monotonic() + _CONNECT_S
    while True:
        try:
            connection.connect(str(path))
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    if (uid := places.peer_uid(connection)) not in (os.getuid(), 0):  # launchd's is 0
        raise FormatError(f"at {path} listens user {uid}: nobody is trusted")


def find_wanted() -> Wire | None:
    """Return `find()` unless the environment says to run here (PAW_MLX_DAEMON=off)."""
    return find() if settings.daemon_wanted() else None


def _age(hello: Mapping[str, Any]) -> tuple[int, list[int]]:
    """Return what orders two sides by age: the protocol, and the numbers of the version."""
    protocol, numbers = hello.get("protocol"), re.findall(r"[0-9]+", str(hello.get("version")))
    return protocol if isinstance(protocol, int) else 0, [int(number[:9]) for number in numbers]


def gone() -> DaemonError:
    """Return the error of a daemon that went away."""
    return DaemonError(
        "the daemon went away before it answered",
        hint="`paw-mlx daemon logs` may say why; --local does without it.",
    )
