"""A place for one worker at a time, and the calls that it was given."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from .calls import Call, Message
from .places import Place

MOST_CALLS = 64  # in a message
_THREADS = 4  # of a worker: one waits for what ends, and the others begin calls

Take = Callable[[Any], None]
Hear = Callable[["Slot", Any, Take], None]


class Slot:
    """Where a worker is, or is about to be.

    `hear` is given a worker's answer, as Ray's reference, and who takes what that brings.
    """

    def __init__(self, ray: Any, actor: Any, place: Place, hear: Hear) -> None:
        self.place, self._ray, self._actor, self._hear = place, ray, actor, hear
        self.worker: Any = None
        self.node = "?"  # where the worker is, once it is `placed`
        self.placed = self.ready = self._collecting = False
        self.began = 0.0  # time.monotonic()
        self.window = 1  # calls at once that keep it busy
        self.calls: dict[int, Call] = {}
        self._cancelled: list[int] = []
        self.num_deaths = 0  # in a row, without an answer in between

    def start(self, base: Message, take: Take) -> None:
        """Have a worker begin; `take` hears where it is."""
        self.placed = self.ready = self._collecting = False
        self.began = time.monotonic()
        options = self.place.options(self._ray)
        actor = self._actor.options(max_concurrency=_THREADS, max_restarts=0, **options)
        self.worker = actor.remote(base, self.place.share)
        self._hear(self, self.worker.where.remote(), take)

    def load(self, take: Take) -> None:
        """Have the worker load its base; `take` hears what that is."""
        self._hear(self, self.worker.load.remote(), take)

    @property
    def room(self) -> int:
        """How many calls it may be given now."""
        return min(self.window - len(self.calls), MOST_CALLS)

    def give(self, calls: Sequence[Call], numbers: Iterator[int]) -> None:
        """Give the worker calls of one job."""
        for call in calls:
            call.number = next(numbers)
            self.calls[call.number] = call
        if calls:
            inputs = [(call.number, call.text) for call in calls]
            self.worker.put.remote(calls[0].job.told, calls[0].job.data, inputs)

    def cancel(self, call: Call) -> None:
        """Note that nobody waits for a call any more, if it is here."""
        if call.number in self.calls:
            self._cancelled.append(call.number)

    def ask(self, gather_s: float) -> None:
        """Tell the worker what was cancelled, and ask what has ended, where calls are there."""
        if self._cancelled:
            self.worker.cancel.remote(self._cancelled)
            self._cancelled = []
        if self.calls and not self._collecting:
            self._collecting = True
            self._hear(self, self.worker.collect.remote(MOST_CALLS, gather_s), self._settle)

    def end(self) -> list[Call]:
        """Kill what is left of the worker, and take its calls back, in order."""
        with suppress(Exception):  # it may be dead, and so may Ray
            self._ray.kill(self.worker)
        calls, self.calls = [*self.calls.values()], {}
        self.worker, self._cancelled = None, []
        return calls

    def _settle(self, answers: Sequence[tuple[int, Message]]) -> None:
        self._collecting, self.num_deaths = False, 0
        for number, message in answers:
            self.calls.pop(number).settle(message)
