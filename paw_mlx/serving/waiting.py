"""Waiting, in asyncio, for a call that a thread hands over."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

from ..runner import Result


async def result_of(submitting: asyncio.Future[Future[Result]]) -> Result:
    """Return a call's result; cancelled, it cancels the call, be it not handed over yet."""
    try:
        call = await asyncio.shield(submitting)
    except asyncio.CancelledError:
        submitting.add_done_callback(_drop)
        raise
    try:
        return await asyncio.wrap_future(call)
    finally:
        del call, submitting  # an error of theirs would keep this frame, and all that it holds


def _drop(submitting: asyncio.Future[Future[Result]]) -> None:
    """Cancel a call that was begun for nobody."""
    if not submitting.cancelled() and submitting.exception() is None:
        submitting.result().cancel()
