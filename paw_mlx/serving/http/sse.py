"""Events of a server (Server-Sent Events): `event: NAME` and `data: JSON`, as they happen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from starlette.responses import StreamingResponse

from ...errors import PawError
from .errors import record_of

_HEARTBEAT_S = 15.0
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
Event = tuple[str, Any]


def respond(events: AsyncGenerator[Event]) -> StreamingResponse:
    """Answer with events; a PawError ends them with an `error`. A client that leaves ends them."""
    return stream_bytes(_written(events))


def stream_bytes(parts: AsyncGenerator[bytes]) -> StreamingResponse:
    """Answer with events that are written already."""
    return StreamingResponse(parts, media_type="text/event-stream", headers=_HEADERS)


def encoded(name: str | None, data: Any) -> bytes:
    """Write an event; one without a name is a `message`."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


async def _written(events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    ahead: asyncio.Task[Any] | None = None
    try:
        while True:
            ahead = ahead or asyncio.create_task(_next(events))
            done, _ = await asyncio.wait((ahead,), timeout=_HEARTBEAT_S)
            if not done:
                yield b": still here\n\n"  # so that a client that is gone is noticed
                continue
            event, ahead = ahead.result(), None
            if event is None:
                return
            yield encoded(*event)
    except PawError as error:
        yield encoded("error", record_of(error))
    finally:
        if ahead:
            ahead.cancel()


async def _next(events: AsyncGenerator[Event]) -> Event | None:
    with suppress(StopAsyncIteration):
        return await anext(events)
    return None
