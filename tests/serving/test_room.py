"""Room for requests: in turn, never for ever, and nothing stays that was asked for."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from paw_mlx.runner import Result
from paw_mlx.serving.daemon.threads import Threads
from paw_mlx.serving.room import Room
from paw_mlx.serving.waiting import result_of


async def settle() -> None:
    """Let all tasks go on for as long as they can."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_who_finds_no_room_waits_in_turn() -> None:
    async def work() -> None:
        room, got = Room(10), list[int]()

        async def take(num_bytes: int) -> None:
            await room.take(num_bytes)
            got.append(num_bytes)

        tasks = [asyncio.create_task(take(num_bytes)) for num_bytes in (6, 7, 2, 0)]
        await settle()
        assert got == [6]  # the 2 would fit, and does not overtake the 7
        tasks[1].cancel()
        await settle()
        assert got == [6, 2, 0]
        room.give_back(2)
        assert not room.try_take(5)
        assert room.try_take(4)
        room.give_back(10)
        await room.take(10)  # nothing is lost of what was cancelled

    asyncio.run(work())


def test_what_is_larger_than_all_of_it_gets_in_alone() -> None:
    async def work() -> None:
        room = Room(10)
        await room.take(1)
        large = asyncio.create_task(room.take(1000))
        await settle()
        assert not large.done()
        room.give_back(1)
        await asyncio.wait_for(large, 20)
        assert not room.try_take(1)

    asyncio.run(work())


def test_a_call_that_is_cancelled_before_a_thread_is_free_keeps_nothing() -> None:
    class Text:
        pass

    async def work() -> None:
        threads, go, text = Threads(1, "test"), threading.Event(), Text()
        told = weakref.ref(text)
        first = asyncio.create_task(threads.call(go.wait, 60))
        await settle()
        second = asyncio.create_task(threads.call(id, text))
        del text
        await settle()
        second.cancel()
        with suppress(asyncio.CancelledError):
            await second
        del second
        await settle()
        assert told() is None
        go.set()
        assert await first
        assert await threads.call(abs, -1) == 1
        threads.end()

    asyncio.run(work())


def test_a_call_that_fails_is_gone_once_its_error_is() -> None:
    """Without a garbage collection, which comes late where texts are few and large."""

    async def work(executor: ThreadPoolExecutor) -> None:
        call: Future[Result] = Future()
        call.set_exception(ValueError("too long"))
        told = weakref.ref(call)
        submitting = asyncio.get_running_loop().run_in_executor(executor, [call].pop)
        del call
        with suppress(ValueError):
            await result_of(submitting)
        del submitting
        await settle()
        assert told() is None

    gc.disable()
    try:
        with ThreadPoolExecutor(1) as executor:
            asyncio.run(work(executor))
    finally:
        gc.enable()
