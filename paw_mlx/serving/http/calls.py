"""Calls of functions out of an event loop: in threads, and ended when whoever asked is gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar, cast

from starlette.requests import ClientDisconnect, Request

from ...functions import Function
from ...program import Program
from ...runner import Options, Result, Runner
from ..waiting import result_of
from .state import State

T = TypeVar("T")
_END = object()
_ROOM = 64  # items that a thread may be ahead


class _Gone(Exception):
    """Whoever a thread works for has gone."""


class Outlet(Generic[T]):
    """Where a thread puts what it makes, for the event loop to take: a few items ahead."""

    def __init__(self, room: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[Any] = asyncio.Queue()
        self._room = threading.Semaphore(room)
        self._stops = list[Callable[[], object]]()
        self._gone = False

    def put(self, item: T) -> None:
        """Hand an item over, in the thread, when there is room; it ends if nobody takes it."""
        self._room.acquire()
        self._hand(item)

    def on_gone(self, stop: Callable[[], object]) -> None:
        """Have `stop` called when nobody waits any more, in any thread."""
        self._stops.append(stop)
        if self._gone:
            stop()

    def leave(self) -> None:
        """End the thread's work: nobody takes what it puts."""
        self._gone = True
        for stop in self._stops:
            stop()
        self._room.release()

    def work(self, make: Callable[[Outlet[T]], None]) -> None:
        """Do the thread's work: `make` puts; its error goes to whoever takes."""
        end: object = _END
        try:
            make(self)
        except _Gone:
            return
        except BaseException as error:
            end = error
        with suppress(_Gone):
            self._hand(end)
        del end  # whose frames are these

    async def take(self) -> Any:
        """Return the next item; the end is `_END`, an error is raised."""
        item = await self._items.get()
        self._room.release()
        if isinstance(item, BaseException):
            raise item
        return item

    def _hand(self, item: object) -> None:
        if self._gone:
            raise _Gone
        try:
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)
        except RuntimeError:  # the loop is closed
            raise _Gone from None


async def pour(make: Callable[[Outlet[T]], None], room: int = _ROOM) -> AsyncGenerator[T]:
    """Give what `make` puts, from a thread of its own, which ends when nobody takes it."""
    outlet = Outlet[T](room)
    threading.Thread(target=outlet.work, args=(make,), name="paw-mlx call", daemon=True).start()
    try:
        while (item := await outlet.take()) is not _END:
            yield item
    finally:
        outlet.leave()


def while_asked(fn: Function, outlet: Outlet[Any], state: State, reference: str) -> Function:
    """Return a function for rows, whose calls are all cancelled when nobody waits any more."""
    runner = _WhileAsked(fn.runner, outlet, partial(state.metrics.watch, reference))
    return Function(cast(Runner, runner), fn.program)


class _WhileAsked:
    """As much of a Runner as rows need; whoever waits for one of its calls learns of its end."""

    def __init__(
        self, runner: Runner, outlet: Outlet[Any], watch: Callable[[Future[Result]], None]
    ) -> None:
        self._runner, self._watch = runner, watch
        self._running, self._gone = set[Future[Result]](), False
        self.max_in_flight = runner.max_in_flight
        outlet.on_gone(self._cancel)

    def submit(self, program: Program, text: str, options: Options) -> Future[Result]:
        """Hand over one input, as `Runner` has it."""
        future = self._runner.submit(program, text, options)
        self._watch(future)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        if self._gone:
            future.cancel()
        return future

    def _cancel(self) -> None:
        self._gone = True
        for future in self._running.copy():
            future.cancel()


async def run(state: State, reference: str, text: str, options: Options) -> tuple[Function, Result]:
    """Return a stored function and its result for one input; NotFound for what is not stored."""
    fn = await state.function(reference)
    return fn, await finish(state, fn, reference, text, options)


async def finish(state: State, fn: Function, reference: str, text: str, options: Options) -> Result:
    """Return a function's result for one input; cancelled, it cancels the call."""

    def submit() -> Future[Result]:  # it tokenizes, which takes a while for a long input
        future = fn.submit(text, options)
        state.metrics.watch(reference, future)
        return future

    return await result_of(asyncio.ensure_future(state.in_thread(submit)))


async def stream(
    state: State, fn: Function, reference: str, text: str, options: Options
) -> AsyncGenerator[str | Result]:
    """Give a function's output in pieces, and then its result; whoever leaves cancels the call."""

    def make(outlet: Outlet[str | Result]) -> None:
        pieces = fn.stream(text, options)
        outlet.on_gone(pieces.close)
        for piece in pieces:
            outlet.put(piece)
        outlet.put(pieces.result)

    end, result = state.metrics.begin(reference), None
    try:
        async for item in pour(make):
            result = item if isinstance(item, Result) else None
            yield item
    finally:
        end(result)


async def until_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what some work brings; ClientDisconnect, and the work is cancelled, if the client
    leaves before. The request's body has to be read."""
    task, gone = asyncio.create_task(work), asyncio.create_task(_leaving(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        task.cancel()
        gone.cancel()


async def _leaving(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
