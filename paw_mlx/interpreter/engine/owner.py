"""The one thread that computes: MLX's streams belong to threads, and a batch to one of them.

Any number of threads and asyncio tasks hand it calls through a queue, and wait for futures.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

import mlx.core as mx

from ...device import claim, is_forked
from ...errors import ClosedError, OptionError
from .batch import Batch
from .call import Call
from .threads import Errand

_REST_S = 2.0  # idle for so long, a batch gives back what it does not need
_LOOK_S = 0.05  # how often waiting calls are asked whether they have expired
Work = Callable[[Batch], Any]
Task = tuple[Work, "Future[Any]"]


class Owner:
    """Runs a batch in a thread of its own, lent on first use (`threads`)."""

    def __init__(self, batch: Batch) -> None:
        self._batch: Batch | None = batch
        self._queue: SimpleQueue[Call | Task | None] = SimpleQueue()
        self._errand: Errand | None = None
        self._lock = threading.Lock()
        self._rests_since: float | None = time.monotonic()  # None while there is work

    @property
    def idle_s(self) -> float:
        """Seconds since there was nothing left to do; 0 while there is."""
        since = self._rests_since
        return 0.0 if since is None else time.monotonic() - since

    def submit(self, item: Call | Task) -> None:
        """Hand over a call or a task; ClosedError after `close`, also in its future."""
        claim()
        with self._lock:
            if self._batch is None:
                raise ClosedError("the interpreter is closed")
            if self._errand is None or self._errand.over:
                self._errand = Errand(partial(self._serve, self._batch))
            self._rests_since = None
            self._queue.put(item)

    def run(self, work: Work) -> Any:
        """Do something with the batch between two steps, and return what it returns."""
        self.check_caller()
        done: Future[Any] = Future()
        self.submit((work, done))
        return done.result()

    def check_caller(self) -> None:
        """OptionError in the owner's own thread, which would wait for itself.

        ClosedError in a forked child.
        """
        claim()
        if (errand := self._errand) and errand.is_here:
            raise OptionError(
                "a call waits for itself: this is the interpreter's own thread",
                hint="In a callback, submit calls and do not wait for them.",
            )

    def close(self) -> None:
        """Fail what is waiting and give the memory back. Closing twice is fine."""
        if is_forked():  # a lock, or MLX, may be as another thread left it
            self._batch = None
            return
        with self._lock:
            errand, self._errand = self._errand, None
            self._queue.put(None)
            batch, self._batch = self._batch, None
        if errand is None and batch is not None:
            self._end(batch, [])
        elif errand and not errand.is_here:
            errand.wait()
        mx.clear_cache()

    def _serve(self, batch: Batch) -> None:
        waiting: list[Call] = []
        looked = time.monotonic()
        while self._receive(batch, waiting):
            if time.monotonic() - looked > _LOOK_S or not batch.rows:
                waiting[:] = [call for call in waiting if not call.expired()]
                looked = time.monotonic()
            self._turn(batch, waiting)
        self._end(batch, waiting)

    @staticmethod
    def _turn(batch: Batch, waiting: list[Call]) -> None:
        """Let calls join, and go one step; what fails ends these calls and nothing else."""
        joining: list[Call] = []
        try:
            if joining := batch.admission.choose(waiting, batch.rows):
                chosen = {id(call) for call in joining}
                waiting[:] = [call for call in waiting if id(call) not in chosen]
                batch.admit(joining)
            batch.step()
        except BaseException as error:  # also what a callback throws: the thread must go on
            batch.abort(error)
            for call in joining:
                call.fail(error)

    def _receive(self, batch: Batch, waiting: list[Call]) -> bool:
        """Take what is in the queue, waiting for it when there is nothing to do; False to end."""
        rested = False
        while True:
            busy = bool(batch.rows or waiting)
            if not busy and not rested:
                self._rests_since = time.monotonic()
            try:
                item = self._queue.get(not busy, None if rested else _REST_S)
            except Empty:
                if busy:
                    return True
                try:
                    batch.rest()
                except Exception:
                    batch.clear()
                rested = True
                continue
            if item is None:
                return False
            self._rests_since = None
            if isinstance(item, Call):
                waiting.append(item)
            else:
                self._do(batch, *item)
            del item  # or it would stay until the next one

    @staticmethod
    def _do(batch: Batch, work: Work, done: Future[Any]) -> None:
        try:
            done.set_result(work(batch))
        except BaseException as error:
            done.set_exception(error)

    def _end(self, batch: Batch, waiting: list[Call]) -> None:
        """Fail what is left and drop every array."""
        closed = ClosedError("the interpreter was closed")
        for call in waiting:
            call.fail(closed)
        batch.close(closed)
