"""Room for what is asked: the bytes that a server holds of all requests, whoever sent them."""

from __future__ import annotations

import asyncio

HELD_BYTES = 64 << 20  # of all requests that are held at once
CALL_BYTES = 16 << 10  # what a call takes besides its text, about


class Room:
    """So many bytes for all requests together, in one event loop.

    Where there is no room, `take` waits for it in turn, and `try_take` says so. What is larger than
    all of it gets in alone, so that nothing waits for ever.
    """

    def __init__(self, num_bytes: int = HELD_BYTES) -> None:
        self._num_bytes, self._held = num_bytes, 0
        self._turn, self._given_back = asyncio.Lock(), asyncio.Event()

    async def take(self, num_bytes: int) -> None:
        """Take some bytes, once there is room and all have theirs who asked before."""
        async with self._turn:
            while not self._fits(num_bytes):
                self._given_back.clear()
                await self._given_back.wait()
            self._held += num_bytes

    def try_take(self, num_bytes: int) -> bool:
        """Take some bytes now, and say whether there was room for them, and nobody waits."""
        free = not self._turn.locked() and self._fits(num_bytes)
        self._held += num_bytes * free
        return free

    def _fits(self, num_bytes: int) -> bool:
        return not self._held or self._held + num_bytes <= self._num_bytes

    def give_back(self, num_bytes: int) -> None:
        """Give back what was taken."""
        self._held -= num_bytes
        self._given_back.set()
