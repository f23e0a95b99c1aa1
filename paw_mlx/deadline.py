"""One deadline over all that an HTTP request waits for: redirects, heads, bodies and refusals.

A socket's own timeout bounds each wait and not how many there are: a byte now and then never
comes late.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
import urllib.request
from functools import partial
from typing import Any


class Deadline:
    """A moment by which an answer is there as a whole; `end` is one of the monotonic clock."""

    def __init__(self, seconds: float) -> None:
        """Begin to count."""
        self.seconds, self.end = seconds, time.monotonic() + seconds

    def left_s(self) -> float:
        """Return the seconds that are left; TimeoutError if none are."""
        left_s = self.end - time.monotonic()
        if left_s <= 0:
            raise TimeoutError(f"no whole answer within {self.seconds:g} s")
        return left_s


def open_by(
    deadline: Deadline,
    request: urllib.request.Request,
    wait_s: float,
    redirects: urllib.request.HTTPRedirectHandler,
) -> http.client.HTTPResponse:
    """Send a request; return its response, to be closed, whose reads keep the deadline, too.

    Each connection and each wait for bytes takes at most `wait_s`; `redirects` closes the bodies of
    those that it follows. TimeoutError, and whatever else urllib raises: OSError (HTTPError for a
    refusal, whose body keeps the deadline, too), HTTPException.
    """
    opener = urllib.request.build_opener(_Connections(deadline), redirects)
    try:
        response: http.client.HTTPResponse = opener.open(request, timeout=wait_s)
    except ValueError as error:  # urllib's word for an address that it cannot take apart
        raise http.client.InvalidURL(str(error)) from error
    return response


class _Connections(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Connections, redirected ones and a proxy's among them, that keep a deadline."""

    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def do_open(self, http_class: Any, req: Any, **given: Any) -> Any:
        def connect(host: str, /, **more: Any) -> http.client.HTTPConnection:
            more["timeout"] = min(more["timeout"], self._deadline.left_s())
            connection: http.client.HTTPConnection = http_class(host, **more)
            connection.response_class = partial(_Response, self._deadline)  # type: ignore[assignment]
            return connection

        return super().do_open(connect, req, **given)


class _Response(http.client.HTTPResponse):
    """A response that takes its bytes, the head's from the first on, by a deadline."""

    def __init__(self, deadline: Deadline, sock: socket.socket, *args: Any, **more: Any) -> None:
        super().__init__(sock, *args, **more)
        self.fp = _Bounded(_Timed(self.fp.detach(), sock, deadline))


class _Bounded(io.BufferedReader):
    """Bytes of which so many are read and no more: a chunk of -1 bytes would be all there are."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            raise http.client.HTTPException("the answer does not say how long its parts are")
        return super().read(size)


class _Timed(io.RawIOBase):
    """The bytes of a socket, of which each wait is no longer than the time that is left."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: Deadline) -> None:
        self._raw, self._sock, self._deadline = raw, sock, deadline
        self._wait_s = sock.gettimeout() or deadline.seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        self._sock.settimeout(min(self._wait_s, self._deadline.left_s()))
        try:
            return self._raw.readinto(buffer)
        except TimeoutError:
            self._deadline.left_s()  # says so, if it was this one
            raise

    def close(self) -> None:
        self._raw.close()
        super().close()
