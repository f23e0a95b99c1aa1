"""A call for a cluster, from its input to what whoever waits for it hears."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from ...errors import DaemonError, PawError

Message = dict[str, Any]
_MAX_DEATHS = 4  # of workers that a call was given to


@dataclass(eq=False)
class Job:
    """What calls have in common: `told` goes to the worker with the program's bytes by reference;
    `read` makes a call's result of an answer."""

    told: Message
    data: Sequence[Any]
    read: Callable[[Message], Any]


@dataclass(eq=False)
class Call:
    """An input that somebody waits for; a worker that has it knows it by its `number`."""

    job: Job
    text: str
    future: Future[Any] = field(default_factory=Future)
    num_deaths: int = 0
    number: int = 0

    def settle(self, message: Message) -> None:
        """Give who waits the answer or the error that a message holds; no one if cancelled."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            if problem := problem_of(message):
                raise problem
            self.future.set_result(self.job.read(message))
        except Exception as error:  # the call's, or a bug of ours: whoever waits hears of it
            self.future.set_exception(error.with_traceback(None))

    def survives(self) -> bool:
        """Note that a worker died with it; say whether another may try.

        A call that too many died with may be why they did, and fails.
        """
        self.num_deaths += 1
        if self.num_deaths < _MAX_DEATHS:
            return True
        error = DaemonError(f"{self.num_deaths} workers died while they had this input")
        self.settle({"error": error.record()})
        return False


def problem_of(message: Message) -> Exception | None:
    """Return the error that a message holds: a `PawError`, or a bug of ours with its traceback."""
    if record := message.get("error"):
        return PawError.of(record)
    if bug := message.get("bug"):
        return RuntimeError(f"a worker failed:\n{bug}")
    return None
