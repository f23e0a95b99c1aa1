"""Calls for the workers of a cluster: each to the least busy one, again if that one dies.

One thread decides everything, in the order in which it hears of it: Ray's answers and the calls of
other threads are events in its queue. Calls travel some at a time, and a worker is given no more of
them than keep it busy, so nothing piles up.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from ...errors import ClosedError, DaemonError, PawError
from ...version import VERSION
from . import faults
from .actor import Worker
from .calls import Call, Job, Message, problem_of
from .places import Place
from .slots import Slot, Take

_GATHER_S = 0.001  # for calls that are about to come, so that they travel together
_ANSWER_S, _FEW_WORKERS = 0.05, 8  # for answers; beyond so many workers longer: they add up
_LOOK_S = 1.0
_PLACE_S = 60.0  # for a worker to begin on a node
_MAX_DEATHS = 3  # of a slot's workers in a row, without an answer in between
_END_S = 10.0


class Dispatcher:
    """Starts a worker at each place, with the base that `base` names, and gives them calls.

    `opened` brings what each said of its base, by node, once all have loaded it, or the error of
    the first that could not. From then on what cannot be replaced is done without.
    """

    def __init__(
        self, ray: Any, places: Sequence[Place], base: Message, worker: type[Worker] = Worker
    ) -> None:
        self._ray, self._base = ray, base
        actor = ray.remote(worker)
        self._slots = [Slot(ray, actor, place, self._hear) for place in places]
        self._told: dict[str, Message] = {}  # of bases, by node
        self.opened: Future[Mapping[str, Message]] = Future()
        self._waiting: deque[Call] = deque()
        self._events: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._numbers = itertools.count(1)
        self._lost: Message | None = None  # why nothing is done any more
        self._lock = threading.Lock()  # of `_lost`: a call comes before the end, or hears of it
        self.thread = threading.Thread(target=self._serve, name="paw-mlx-ray", daemon=True)
        self.thread.start()

    @property
    def max_in_flight(self) -> int:
        """How many calls at once keep the workers busy."""
        return max(1, sum(slot.window for slot in self._slots))

    def submit(self, job: Job, text: str) -> Future[Any]:
        """Hand over a call; its future brings what `job.read` makes of the answer, or its error.

        ClosedError once no worker is left, or after `close`.
        """
        call = Call(job, text)
        call.future.add_done_callback(partial(self._hear_end, call))
        with self._lock:
            if self._lost is None:
                self._events.put(partial(self._waiting.append, call))
                return call.future
        call.settle(self._lost)
        return call.future

    def close(self) -> None:
        """End the workers; what waits fails with ClosedError. Closing twice is fine."""
        closed = ClosedError("the function on Ray was closed")
        self._events.put(partial(self._lose, {"error": closed.record()}))
        if self.thread is not threading.current_thread():
            self.thread.join(_END_S)

    def _hear_end(self, call: Call, future: Future[Any]) -> None:
        if future.cancelled():
            self._events.put(partial(self._cancel, call))

    def _hear(self, slot: Slot, answer: Any, take: Take) -> None:
        """Have an answer of a slot's worker taken in the thread."""
        worker = slot.worker
        answer.future().add_done_callback(
            lambda done: self._events.put(partial(self._take, slot, worker, done, take))
        )

    # What follows happens in the thread.

    def _serve(self) -> None:
        try:
            for slot in self._slots:
                slot.start(self._base, partial(self._take_place, slot))
            while self._lost is None:
                self._turn()
        except self._ray.exceptions.RaySystemError as error:
            self._lose({"error": ClosedError(f"Ray has gone: {error}").record()})
        except Exception:  # a bug of ours: nobody may wait for good
            self._lose({"bug": traceback.format_exc()})
        while not self._events.empty():  # calls that came before it was lost
            with suppress(Exception):
                self._events.get_nowait()()
        for call in [*(call for slot in self._slots for call in slot.end()), *self._waiting]:
            call.settle(self._lost or {})

    def _turn(self) -> None:
        """Hear what has happened, and give calls to whoever has room."""
        with suppress(Empty):
            self._events.get(timeout=_LOOK_S)()
            time.sleep(_GATHER_S)
            while self._lost is None:
                self._events.get_nowait()()
        self._look()
        ready = [slot for slot in self._slots if slot.ready]
        share = math.ceil(len(self._waiting) / max(1, len(ready)))  # or one would get all of a few
        while self._waiting and ready:
            slot = min(ready, key=lambda one: len(one.calls) / one.window)
            if slot.room <= 0:
                break
            slot.give(self._take_waiting(min(slot.room, share)), self._numbers)
        for slot in ready:
            slot.ask(_ANSWER_S * max(1.0, len(ready) / _FEW_WORKERS))

    def _cancel(self, call: Call) -> None:
        for slot in self._slots:
            slot.cancel(call)

    def _take_waiting(self, most: int) -> list[Call]:
        """Take up to so many calls of one job that wait, and none that was cancelled."""
        taken: list[Call] = []
        while self._waiting and len(taken) < most:
            if taken and self._waiting[0].job is not taken[0].job:
                break
            call = self._waiting.popleft()
            if call.future.cancelled():
                call.settle({})
            else:
                taken.append(call)
        return taken

    def _take(self, slot: Slot, worker: Any, done: Future[Any], take: Take) -> None:
        """Take an answer of a worker, or its death, unless that is known already."""
        if slot.worker is not worker:
            return
        try:
            answer = done.result()
        except self._ray.exceptions.RayTaskError:
            raise  # a bug of ours
        except self._ray.exceptions.RayError as error:
            self._bury(slot, error)
        else:
            take(answer)

    def _take_place(self, slot: Slot, told: Message) -> None:
        slot.placed, slot.node = True, told["node"]
        if told["version"] == VERSION:
            slot.load(partial(self._take_base, slot))
        else:
            self._retire(slot, faults.other_version(slot.node, told["version"]))

    def _take_base(self, slot: Slot, told: Message) -> None:
        """Take a worker that has loaded, if its base is the others'."""
        if error := told.get("error"):
            self._retire(slot, faults.not_loaded(slot.node, error, self._base))
        elif problem := faults.other_base(self._told, slot.node, told):
            self._retire(slot, problem)
        else:
            self._told[slot.node] = told
            slot.ready, slot.window = True, max(1, int(told["max_in_flight"]) // 2)
            if not self.opened.done() and all(one.ready for one in self._slots):
                self.opened.set_result(self._told)

    def _bury(self, slot: Slot, error: Exception) -> None:
        """Have the calls of a worker that died done again, by the others and its successor."""
        slot.num_deaths += 1
        self._take_back(slot)
        if fault := faults.no_package(error):
            self._retire(slot, fault)
        elif slot.num_deaths == _MAX_DEATHS:
            node = slot.node if slot.placed else None
            self._retire(slot, faults.deaths(slot.num_deaths, node, error))
        else:
            alive = (node["NodeID"] for node in self._ray.nodes() if node["Alive"])
            if slot.place.node not in alive:
                slot.place = slot.place.anywhere()
            slot.start(self._base, partial(self._take_place, slot))

    def _retire(self, slot: Slot, error: PawError) -> None:
        """Do without a slot. All is lost where it was the last, or before all have begun."""
        self._take_back(slot)
        self._slots.remove(slot)
        if not self.opened.done():
            self._lose({"error": error.record()})
        elif not self._slots:
            message = f"no worker of the cluster is left: {error}"
            self._lose({"error": ClosedError(message, hint=" ".join(error.hints)).record()})

    def _take_back(self, slot: Slot) -> None:
        self._waiting.extendleft(call for call in reversed(slot.end()) if call.survives())

    def _look(self) -> None:
        """Give up on workers that no node has room for, where nobody else does their part."""
        begun = [slot.began for slot in self._slots if not slot.placed]
        if not begun or (self.opened.done() and len(begun) < len(self._slots)):
            return
        if time.monotonic() - min(begun) > _PLACE_S:
            kind = ClosedError if self.opened.done() else DaemonError
            self._lose({"error": faults.no_room(kind, _PLACE_S).record()})

    def _lose(self, message: Message) -> None:
        """Begin the end, for a reason that whoever waits hears."""
        with self._lock:
            self._lost = self._lost or message
        if not self.opened.done():
            self.opened.set_exception(problem_of(message) or ClosedError("it was closed"))
