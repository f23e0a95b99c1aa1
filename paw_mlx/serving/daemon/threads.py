"""Threads that are lent: what finds none free waits in the event loop, and can be cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class Threads:
    """So many threads. An executor would queue, and keep what was cancelled until its turn."""

    def __init__(self, num_threads: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(num_threads, name)
        self._free = asyncio.Semaphore(num_threads)

    async def begin(self, call: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        """Have a thread make a call, once one is free; the future brings what it returns."""
        await self._free.acquire()
        loop = asyncio.get_running_loop()

        def is_free(_: Future[T]) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._free.release)

        try:
            future = self._executor.submit(call, *arguments)
        except RuntimeError:  # they have ended
            self._free.release()
            raise
        future.add_done_callback(is_free)
        return asyncio.wrap_future(future)

    async def call(self, call: Callable[..., T], *arguments: Any) -> T:
        """Return what a call returns that a thread makes."""
        return await (await self.begin(call, *arguments))

    def end(self) -> None:
        """End the threads, once their calls have ended."""
        self._executor.shutdown(cancel_futures=True)
