"""Threads that compute: lent for one piece of work after another, and kept in between.

MLX keeps a thread of its own, and some memory, for every Python thread that ever computed, for as
long as the process lives. So a thread that is done waits for the next work, and there are never
more of them than there was work at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context
from functools import partial
from queue import SimpleQueue
from typing import TypeVar
from weakref import finalize

from ...device import is_forked

T = TypeVar("T")
Work = Callable[[], object]


class Errand:
    """Work in a thread that computes, begun at once. What it raises ends the thread."""

    def __init__(self, work: Work) -> None:
        self._over = threading.Event()
        try:
            self.thread = _idle.pop()
        except IndexError:
            self.thread = _Thread()
        self.thread.given.put((work, self._over))

    @property
    def over(self) -> bool:
        """Whether it is done: its thread may be another's by now."""
        return self._over.is_set()

    @property
    def is_here(self) -> bool:
        """Whether whoever asks is part of it."""
        return self.thread is threading.current_thread() and not self.over

    def wait(self) -> None:
        """Return when it is done, and its thread keeps nothing of it."""
        self._over.wait()


def compute(work: Callable[[], T]) -> T:
    """Return what some work returns, or raise what it raises.

    The main thread, which ends with the process, does it itself; for any other one that computes.
    """
    if threading.current_thread() is threading.main_thread():
        return work()
    done: Future[T] = Future()
    Errand(partial(_fulfil, done, work)).wait()
    try:
        return done.result()
    finally:
        del done  # an error keeps its frames, and they would keep the error


def _fulfil(done: Future[T], work: Callable[[], T]) -> None:
    try:
        done.set_result(work())
    except BaseException as error:
        done.set_exception(error)
        del done


class _Thread(threading.Thread):
    def __init__(self) -> None:
        super().__init__(name="paw-mlx", daemon=True)
        self.given = SimpleQueue[tuple[Work, threading.Event] | None]()
        self.start()

    def run(self) -> None:
        while self._go():
            pass

    def _go(self) -> bool:
        """Do the next work; False to end. A frame of its own: one that waits would keep a model."""
        given = self.given.get()
        if given is None:
            return False
        work, over = given
        try:
            Context().run(work)  # nor what a callback set there
            del work, given
            _idle.append(self)
        finally:
            over.set()
        return True


# Without a lock: a collection may close an interpreter, and wait for its thread, anywhere.
_idle: list[_Thread] = []


def _end() -> None:
    """End the threads that wait, while Python lives: what MLX keeps for them dies with them."""
    while _idle and not is_forked():
        thread = _idle.pop()
        thread.given.put(None)
        thread.join()


finalize(_Thread, _end)  # at exit, after the interpreters, which were made later
