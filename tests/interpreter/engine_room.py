"""The one door through which tests look into a running engine.

What they ask there (rows, slots, bytes held) no user sees, and no other way tells.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import TypeVar

from paw_mlx.interpreter import Interpreter
from paw_mlx.interpreter.engine.batch import Batch
from paw_mlx.interpreter.engine.call import Call

T = TypeVar("T")


def inside(interpreter: Interpreter, work: Callable[[Batch], T]) -> T:
    """Do something with the batch, in the thread that owns it, between two steps."""
    return interpreter._owner.run(work)


def batch_of(interpreter: Interpreter) -> Batch:
    """The batch itself, for settings that only tests change."""
    return inside(interpreter, lambda batch: batch)


def submit(interpreter: Interpreter, call: Call) -> None:
    """Hand over a call that the test made."""
    interpreter._owner.submit(call)


def num_queued(interpreter: Interpreter) -> int:
    """What its thread has not looked at yet."""
    return interpreter._owner._queue.qsize()


def thread_of(interpreter: Interpreter) -> Thread | None:
    """The thread that computes."""
    errand = interpreter._owner._errand
    return errand and errand.thread
