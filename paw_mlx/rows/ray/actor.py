"""What runs on a node: a worker, which has one base in its memory, and programs by their keys.

Ray calls its methods, several at a time, each in some thread; what they take and return is plain.
Calls go in with `put` and come out with `collect`, each when it has ended, so a slow one holds no
others up.
"""

from __future__ import annotations

import json
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

from ...errors import DriftWarning, PawError
from ...files import scratch
from ...output import read_record
from ...runner import Options, Result
from ...version import VERSION
from .cluster import library

if TYPE_CHECKING:
    from ...interpreter import Interpreter
    from ...program import Program

Message = dict[str, Any]
MAX_PROGRAMS = 16  # in memory at once; their weights are the interpreter's business


class Worker:
    """Runs programs on the base that `base` names; `share` workers share the node's memory.

    It loads nothing by itself: that would be Ray's error, and `load` says it as ours.
    """

    def __init__(self, base: Message, share: int) -> None:
        self._base, self._share = base, share
        self._interpreter: Interpreter | None = None
        self._programs: OrderedDict[tuple[str, str], Program] = OrderedDict()
        self._calls: dict[int, Future[Any]] = {}
        self._ended: SimpleQueue[tuple[int, Future[Any]]] = SimpleQueue()
        self._lock = threading.Lock()

    def where(self) -> Message:
        """Say which node this is, and which version of the package it has."""
        return {"node": library().util.get_node_ip_address(), "version": VERSION}

    def load(self) -> Message:
        """Load the base, and say what it is, or what is wrong."""
        try:
            self._interpreter = loaded = load_base(self._base, self._share)
        except PawError as error:
            return {"error": error.record()}
        told = {"identity": loaded.identity, "device": loaded.device}
        return told | {"max_in_flight": loaded.max_in_flight}

    def put(self, job: Message, data: Sequence[Any], calls: Sequence[tuple[int, str]]) -> None:
        """Begin calls, each a number and an input, of one job.

        A job's `op` is `run`, `cut` or `check`; `data` holds a reference to its program's bytes.
        """
        try:
            program: Program | Exception = self._program(job["key"], data, job["output"])
        except Exception as error:  # also a bug of ours: whoever waits has to hear of it
            program = error
        for number, text in calls:
            future = self._begin(job, program, text)
            self._calls[number] = future
            future.add_done_callback(partial(self._end, number))

    def collect(self, most: int, gather_s: float) -> list[tuple[int, Message]]:
        """Wait for calls to end, and return what became of up to `most`; of a cancelled one, {}.

        After the first, it waits `gather_s` at most for others, if others are under way.
        """
        found = [self._ended.get()]
        until = time.monotonic() + gather_s
        try:
            while len(found) < most:
                left = until - time.monotonic() if len(self._calls) > len(found) else 0.0
                found.append(self._ended.get(left > 0, max(left, 0.0)))
        except Empty:
            pass
        for number, _ in found:
            del self._calls[number]
        return [(number, _tell(future)) for number, future in found]

    def cancel(self, numbers: Sequence[int]) -> None:
        """Stop calls, also while they decode."""
        for number in numbers:
            if future := self._calls.get(number):
                future.cancel()

    def _end(self, number: int, future: Future[Any]) -> None:
        self._ended.put((number, future))

    def _begin(self, job: Message, program: Program | Exception, text: str) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            if isinstance(program, Exception):
                raise program
            assert self._interpreter
            options = Options(**job["options"])
            if job["op"] == "run":
                return self._interpreter.submit(program, text, options)
            if job["op"] == "cut":
                tokens = self._interpreter.cut_tokens(program, text, options)
                future.set_result({"tokens": tokens})
            else:
                future.set_result({"warnings": self._check(program, job["strict"])})
        except Exception as error:
            future.set_exception(error)
        return future

    def _check(self, program: Program, strict: bool) -> list[str]:
        """Return what running a program warns of; a PawError if it cannot be run."""
        assert self._interpreter
        with catch_warnings(record=True) as caught:
            simplefilter("always", DriftWarning)
            self._interpreter.function(program, strict=strict)
        return [str(one.message) for one in caught if one.category is DriftWarning]

    def _program(self, key: str, data: Sequence[Any], output: Message) -> Program:
        """Return a program with outputs of a type, the same object as long as it is remembered."""
        wanted = key, json.dumps(output, sort_keys=True)
        with self._lock:
            found = self._programs.get(wanted)
            if found is None:
                alike = (one for (other, _), one in self._programs.items() if other == key)
                untyped = next(alike, None) or read_program(data)
                found = replace(untyped, output=read_record(output))
            self._programs[wanted] = found
            self._programs.move_to_end(wanted)
            if len(self._programs) > MAX_PROGRAMS:
                self._programs.popitem(last=False)
            return found


def load_base(base: Message, share: int) -> Interpreter:
    """Load a base, by the arguments of `Interpreter.load`, with a part of the node's memory.

    A BLAS takes as many threads as the worker has CPUs: Ray says so in OMP_NUM_THREADS, unless the
    node does, and the BLAS is loaded here and no earlier.
    """
    from ...interpreter import Interpreter
    from ...interpreter.engine.budget import divide

    divide(share)
    return Interpreter.load(**base)


def read_program(data: Sequence[Any]) -> Program:
    """Load the program whose bytes a reference in `data` stands for; a node fetches them once."""
    from ... import formats

    with scratch() as folder:
        path = folder / "program.paw"
        path.write_bytes(library().get(data[0]))
        return formats.load(path)


def _tell(future: Future[Any]) -> Message:
    """Return what became of a call as a message has it; of a bug of ours, its traceback."""
    if future.cancelled():
        return {}
    error = future.exception()
    if isinstance(error, PawError):
        return {"error": error.record()}
    if error:
        return {"bug": "".join(traceback.format_exception(error))}
    answer = future.result()
    return {"record": answer.record()} if isinstance(answer, Result) else dict(answer)
