"""Map: JSON lines come in, JSON lines go out in their order, while others are still on their way.

What is read and what is written is what `paw-mlx map` reads and writes. A body may be endless: a
few lines of it are held, and no more is read while nobody takes the answers.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ...errors import FormatError, PawError
from ...rows.jsonl import dumps
from ...rows.run import RowFiles
from ...rows.run import map_rows as run_rows
from ...rows.sink import Sink
from .body import options_in
from .calls import Outlet, pour, while_asked
from .errors import tell, too_many
from .state import State

_AHEAD_BYTES = 1 << 20  # of a body, that are held
_ROOM = 8  # answers that are held


def routes(state: State, root: str) -> list[Route]:
    """Return the route that maps."""
    free = asyncio.Semaphore(state.limits.maps)

    async def map_rows(request: Request) -> Response:
        """Run a function on every line of JSON; options stand in the query."""
        options, reference = options_in(request.query_params), request.path_params["ref"]
        fn = await state.function(reference)

        def work(body: _Body, outlet: Outlet[bytes]) -> None:
            outlet.on_gone(body.leave)
            files = RowFiles.open(body, format="jsonl")
            asked = while_asked(fn, outlet, state, reference)
            for _ in run_rows(asked.runner, fn.program, files, _Sink(outlet), options):
                pass

        return _Answer(work, free, state.limits.body_bytes)

    return [Route(f"{root}/map/{{ref:path}}", map_rows, methods=["POST"])]


class _Answer(Response):
    """Reads the lines of a body and sends what `work` makes of them, both at once."""

    def __init__(
        self,
        work: Callable[[_Body, Outlet[bytes]], None],
        free: asyncio.Semaphore,
        max_line_bytes: int,
    ) -> None:
        super().__init__(media_type="application/jsonl")
        del self.headers["content-length"]
        self._work, self._free, self._max_line_bytes = work, free, max_line_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; a client that leaves ends all of it. Refused where too many are answered."""
        if self._free.locked():  # a body may be silent for hours: nobody waits for its end
            raise too_many("too many bodies are being mapped already", 1)
        async with self._free:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(self._max_line_bytes)
        reading = asyncio.create_task(body.fill(receive))
        sending = asyncio.create_task(self._send(Request(scope), body, receive, send))
        try:
            # What is read to its end still waits for the answers; a client that is gone does not.
            await asyncio.wait((reading, sending), return_when=asyncio.FIRST_COMPLETED)
            if not sending.done() and not body.gone:
                gone = asyncio.create_task(_leaving(receive))
                await asyncio.wait((gone, sending), return_when=asyncio.FIRST_COMPLETED)
                gone.cancel()
            if sending.done():
                sending.result()
        finally:
            body.leave()
            for task in (reading, sending):
                task.cancel()

    async def _send(self, request: Request, body: _Body, receive: Receive, send: Send) -> None:
        """Send answers as they come; an error before the first is the answer's status."""
        begun = False
        rows = pour(partial(self._work, body), _ROOM)
        try:
            async for data in rows:
                if not begun:
                    begun = True
                    await self._begin(send)
                await send({"type": "http.response.body", "body": data, "more_body": True})
        except PawError as error:
            if not begun:
                return await (await tell(request, error))(request.scope, receive, send)
            last = dumps({"error": error.record(hints=False)}).encode() + b"\n"
            await send({"type": "http.response.body", "body": last, "more_body": True})
        if not begun:
            await self._begin(send)
        await send({"type": "http.response.body", "body": b""})

    async def _begin(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)


class _Sink(Sink):
    """Hands rows over to the event loop."""

    def __init__(self, outlet: Outlet[bytes]) -> None:
        super().__init__()
        self._outlet = outlet

    def write(self, number: int, data: bytes, failed: bool) -> None:
        """Hand a row over, when there is room."""
        self._outlet.put(data)


class _Body:
    """The lines of a body, from the event loop to the thread that reads them: an `Input`.

    `wake` ends a wait for the next line with None, as a pipe's does.
    """

    name, format, stats, num_bytes = "the body", "jsonl", (), 0

    def __init__(self, max_line_bytes: int) -> None:
        self._max, self._loop = max_line_bytes, asyncio.get_running_loop()
        self._lines: deque[bytes] = deque()
        self._held = 0
        self._woken = self._ended = False
        self._error: PawError | None = None
        self._changed, self._room = threading.Condition(), asyncio.Event()
        self.gone = False
        self.lines = self._read()

    def _read(self) -> Iterator[bytes | None]:
        """Give the lines, with their ends, in the thread; None where it was woken."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._woken or self._ended)
                if not self._lines:
                    if self._ended and self._error:
                        raise self._error
                    if self._ended:
                        return
                    self._woken, line = False, None
                else:
                    line = self._lines.popleft()
                    self._held -= len(line)
                    with suppress(RuntimeError):  # the loop is closed
                        self._loop.call_soon_threadsafe(self._room.set)
            yield line

    def wake(self) -> None:
        """End a wait for the next line: it is None."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def identity(self) -> dict[str, Any]:
        """Return that nothing tells it from another."""
        return {"input": self.name}

    def leave(self) -> None:
        """End the lines: nobody needs the answers."""
        self._end(None)

    async def fill(self, receive: Receive) -> None:
        """Take a body in as it comes, no more of it than is read soon."""
        rest = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone = True
                return self._end(None)
            *whole, rest = (rest + message.get("body", b"")).split(b"\n")
            self._put([line + b"\n" for line in whole])
            if len(rest) > self._max:
                return self._end(FormatError(f"a line of the body has over {self._max:,} bytes"))
            if not message.get("more_body"):
                self._put([rest] if rest else [])
                return self._end(None)
            while self._held > _AHEAD_BYTES:
                self._room.clear()
                await self._room.wait()

    def _put(self, lines: list[bytes]) -> None:
        with self._changed:
            self._lines.extend(lines)
            self._held += sum(map(len, lines))
            self._changed.notify_all()

    def _end(self, error: PawError | None) -> None:
        with self._changed:
            self._ended, self._error = True, self._error or error
            self._changed.notify_all()


async def _leaving(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
