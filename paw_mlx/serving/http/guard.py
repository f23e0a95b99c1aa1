"""Who may ask, how much, and how often: decided before any route is.

- `Host` is one of the server's own names: a page whose name was rebound to this machine has
  another (DNS rebinding).
- What a page of another origin sends (`Origin`, `Sec-Fetch-Site`) is refused, save for following a
  link; no answer has a CORS header.
- A token is asked of all but the workbench's files, which hold nothing, and `/health`:
  `Authorization: Bearer` or `X-API-Key`.
- Bodies are counted as they come; of one client, requests a second; of all, calls at once.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import re
import time
from collections import OrderedDict

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..room import Room
from .errors import Refused, tell, too_many
from .state import State

# `map` reads its body line by line and keeps nothing of it.
STREAMED = "/paw/v1/map/"
_OPEN = re.compile(r"/|/health|/workbench(/.*)?")
_READING = ("GET", "HEAD")
_METHODS = (*_READING, "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_MAX_CLIENTS = 4096  # whose rates are remembered
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]@/\\]+)(?::\d{1,5})?")


class Guard:
    """The middleware around all routes."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self._app, self._state = app, state
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._num_calls, self._room = 0, Room(state.limits.held_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        computes = scope["method"] not in _READING
        try:
            self._check(scope, computes)
        except Refused as refusal:
            self._state.metrics.add("paw_refused_total", reason=refusal.code)
            await (await tell(Request(scope), refusal))(scope, receive, send)
            return
        self._num_calls += computes
        body = _Body(self, scope, receive)
        try:
            await _measured(self._state, self._app, scope, body.receive, send)
        finally:
            self._num_calls -= computes
            self._room.give_back(body.num_held)

    def _check(self, scope: Scope, computes: bool) -> None:
        """Raise Refused for who may not ask, or not now."""
        headers, state = Headers(scope=scope), self._state
        host = headers.get("host", "")
        if not _is_ours(host, state):
            raise Refused(
                421,
                "wrong_host",
                f"this server is not called {host[:100]!r}",
                hint="Ask it by its address, or start it with --allow-host NAME.",
            )
        _check_origin(headers, scope, host, computes)
        if state.token and not _OPEN.fullmatch(scope["path"]):
            _check_token(headers, state.token)
        self._check_rate(str((scope.get("client") or ("",))[0]))
        if computes and self._num_calls >= state.limits.calls:
            raise too_many(f"{state.limits.calls} calls are being answered already", 1)
        length = int(headers.get("content-length", "0"))  # h11 lets only some digits through
        if length > state.limits.body_bytes and not scope["path"].startswith(STREAMED):
            raise _too_large(state.limits.body_bytes)

    def _check_rate(self, client: str) -> None:
        """Take a token out of the client's bucket; Refused if it is empty (a leaky bucket)."""
        limits, now = self._state.limits, time.monotonic()
        left, then = self._clients.pop(client, (float(limits.burst), now))
        left = min(left + (now - then) * limits.rate, limits.burst)
        self._clients[client] = max(left - 1, 0.0) if left >= 1 else left, now
        if len(self._clients) > _MAX_CLIENTS:
            self._clients.popitem(last=False)
        if left < 1:
            raise too_many(
                f"a client may ask {limits.rate:g} times a second, {limits.burst} at once",
                max(1, round(1 / limits.rate)),
            )

    def hold(self, num_bytes: int) -> None:
        """Count bytes of a body that is held; Refused where all together are too many."""
        if not self._room.try_take(num_bytes):
            raise too_many("the bodies being read are too large together", 1)

    @property
    def state(self) -> State:
        return self._state


class _Body:
    """A request's body, counted and timed as it comes."""

    def __init__(self, guard: Guard, scope: Scope, receive: Receive) -> None:
        self._guard, self._receive = guard, receive
        self._is_streamed = scope["path"].startswith(STREAMED)
        self._is_whole = False
        self.num_held = 0

    async def receive(self) -> Message:
        """Receive the next part; Refused for what is too large, too much together, or too late."""
        limits = self._guard.state.limits
        if self._is_whole or self._is_streamed:  # then it is the client's leaving that comes
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), limits.body_s)
        except TimeoutError:
            raise Refused(
                408, "too_slow", f"no more of the body came for {limits.body_s:g} s"
            ) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self._is_whole = not message.get("more_body", False)
        num_bytes = len(message.get("body", b""))
        self._guard.hold(num_bytes)
        self.num_held += num_bytes
        if self.num_held > limits.body_bytes:
            raise _too_large(limits.body_bytes)
        return message


async def _measured(state: State, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request, and count it under the path of its route."""
    start, status = time.perf_counter(), 499  # which it stays if the client leaves before

    async def heard(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        await send(message)

    state.metrics.add("paw_in_flight")
    try:
        await app(scope, receive, heard)
    finally:
        state.metrics.add("paw_in_flight", -1)
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        state.metrics.add("paw_http_requests_total", route=route, method=method, status=str(status))
        state.metrics.observe("paw_http_request_seconds", time.perf_counter() - start, route=route)


def _is_ours(host: str, state: State) -> bool:
    """Whether a Host header names this server, with whatever port (it may be forwarded)."""
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = match[1].strip("[]").rstrip(".").lower()
    return name in state.hosts or (state.any_address and _is_address(name))


def _is_address(name: str) -> bool:
    """Whether a name is an address in digits, which nobody can rebind."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _check_origin(headers: Headers, scope: Scope, host: str, computes: bool) -> None:
    """Raise Refused for what a page of another origin sends; following a link is let through."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    is_ours = origin is None or origin == f"{scope['scheme']}://{host}"
    follows = (
        not computes
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest", "document") == "document"  # no frame of another page
    )
    if not is_ours or (site not in ("none", "same-origin") and not follows):
        raise Refused(
            403,
            "wrong_origin",
            f"a page of {(origin or 'another origin')[:100]} may not ask this server",
        )


def _check_token(headers: Headers, token: str) -> None:
    """Raise Refused unless a request brings the token; compared in a time that tells nothing."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        given = headers.get("x-api-key", "")
    if not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise Refused(
            401,
            "unauthorized",
            "this server asks for its token" if not given else "this is not the server's token",
            hint="Send it as `Authorization: Bearer …` or `X-API-Key: …`.",
            headers={"WWW-Authenticate": "Bearer"},
        )


def _too_large(limit: int) -> Refused:
    return Refused(413, "too_large", f"a body has {limit:,} bytes at most")
