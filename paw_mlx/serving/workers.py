"""Several processes of this machine as one `Runner`: each a child with the base in its memory.

A worker is asked as the daemon is, over a socket that it inherits, so no one else reaches it, and
nothing is left of it: when this process hangs up or dies, it reads the end and ends. One that dies
is replaced, and what it had not answered, and only that, is run again by its successor.

N workers hold the base N times. That pays where one process leaves cores idle; on a Mac all share
the one GPU, and it seldom does.
"""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import Future
from os import PathLike
from typing import Any
from weakref import finalize

from .. import hub
from ..annotations import output_of, retype
from ..client.connection import base_record, load_program
from ..client.contents import Contents
from ..client.link import Link, Message
from ..client.runner import DaemonRunner
from ..errors import ClosedError, DaemonError, DriftWarning, OptionError, PawError
from ..functions import Function
from ..output import Regex
from ..profiles import base_name
from ..program import Program
from ..progress import Progress, quiet
from ..runner import Options, Pieces, Result
from ..words import counted
from .child import Child

_MAX_DEATHS = 3  # of a worker in a row, without a result in between


def open_workers(
    program: str | PathLike[str] | Program,
    num_workers: int,
    *,
    labels: object = None,
    schema: object = None,
    regex: str | re.Pattern[str] | Regex | None = None,
    threshold: float | None = None,
    otherwise: str | None = None,
    interpreter: str | None = None,
    bits: int | None = None,
    group_size: int = 64,
    strict: bool = False,
    offline: bool = False,
    progress: Progress = quiet,
) -> Function:
    """Return a function as `paw_mlx.function` does, whose calls `num_workers` processes compute.

    Its runner's `close` ends them. The keywords and the errors are those of `paw_mlx.function`,
    and each worker takes as much memory as a process without workers. OptionError for less than
    one, DaemonError where a process cannot be started, or three in a row died without a result.
    """
    if num_workers < 1:
        raise OptionError(f"the number of workers must be at least 1, not {num_workers}")
    output = output_of(labels, schema, regex)
    loaded, contents = load_program(program, offline, progress)
    made = retype(loaded, output, threshold, otherwise)
    reference = interpreter or base_name(made.interpreter)
    hub.resolve_base(reference, offline=offline, progress=progress)  # fetched once, not by each
    progress(f"loading {reference} in {counted(num_workers, 'worker')}")
    base = {"interpreter": interpreter, "bits": bits, "group_size": group_size}
    base |= {"strict": strict, "offline": offline}
    workers = Workers(made, contents, base_record(base), num_workers)
    try:
        for message in workers.warnings:
            warnings.warn(message, DriftWarning, stacklevel=2)
    except DriftWarning:  # where warnings are errors
        workers.close()
        raise
    return Function(workers, made)


class Workers:
    """Child processes as a `Runner`: a call goes to the one that has the fewest.

    They load the program and its base, which `base` names as the daemon is told it, at once. They
    end with `close`, with the last reference to this, and with this process.
    """

    def __init__(
        self, program: Program, contents: Contents | None, base: Message, num_workers: int
    ) -> None:
        self._lock = threading.RLock()  # a collection while it is held may drop a stream
        self._workers: list[_Worker] = []
        self._close = finalize(self, _close, self._workers, os.getpid())
        try:
            for _ in range(num_workers):
                self._workers.append(_Worker(program, contents, base, num_workers))
            runners = [worker.runner for worker in self._workers]
            for runner in runners:
                runner.begin_open(program)
            opened = [runner.opened for runner in runners]
        except BaseException:
            self.close()
            raise
        self.max_in_flight = sum(int(told["max_in_flight"]) for told in opened)
        self.identity: dict[str, Any] = dict(opened[0]["identity"])
        self.warnings = [str(message) for message in opened[0].get("warnings", ())]

    def submit(self, program: Program, text: str, options: Options) -> Future[Result]:
        """Hand over one input, as `Runner` has it; what ended a worker for good is raised."""
        worker = self._begin()
        future = worker.runner.submit(program, text, options)
        future.add_done_callback(lambda one: self._end(worker, _is_answered(one)))
        return future

    def run(self, program: Program, text: str, options: Options) -> Result:
        """Return the output for one input."""
        worker, answered = self._begin(), False
        try:
            result = worker.runner.run(program, text, options)
            answered = True
            return result
        finally:
            self._end(worker, answered)

    def stream(self, program: Program, text: str, options: Options) -> Pieces:
        """Return the output for one input in pieces; DaemonError if its worker dies amid them."""
        worker = self._begin()
        try:
            return worker.runner.stream(program, text, options)
        finally:  # it does not count while it is read: that takes as long as its reader likes
            self._end(worker, answered=False)

    def cut_tokens(self, program: Program, text: str, options: Options) -> int:
        """Return how many tokens of an input `overflow` leaves out."""
        return self._workers[0].runner.cut_tokens(program, text, options)

    @property
    def pids(self) -> list[int]:
        """The processes that there are at the moment."""
        return [worker.pid for worker in self._workers]

    def close(self) -> None:
        """End the processes, and wait until they have ended; what is under way is cancelled."""
        self._close()

    def _begin(self) -> _Worker:
        """Count a call for the worker that has the fewest, and return it."""
        with self._lock:
            for worker in self._workers:
                worker.check()
            worker = min(self._workers, key=lambda one: one.num_calls)
            worker.num_calls += 1
            return worker

    def _end(self, worker: _Worker, answered: bool) -> None:
        with self._lock:
            worker.num_calls -= 1
            if answered:
                worker.num_deaths = 0


class _Worker:
    """A place for one child at a time: `runner` asks it. A child that dies gets a successor."""

    def __init__(
        self, program: Program, contents: Contents | None, base: Message, num_workers: int
    ) -> None:
        self._program, self._contents = program, contents
        self._base, self._num_workers = base, num_workers
        self.num_calls = self.num_deaths = 0
        self._failure: Message | None = None  # the record of an error: itself would keep its frames
        self._closed = False
        self._lock = threading.RLock()
        self.runner = self._start()

    @property
    def pid(self) -> int:
        return self._child.pid

    def check(self) -> None:
        """Raise what ended this worker for good."""
        if self._failure:
            raise PawError.of(self._failure)

    def hang_up(self) -> None:
        """Have the child end, and start no other."""
        with self._lock:
            self._closed = True
        self.runner.close()

    def join(self) -> int:
        """Wait until the child has ended, or kill it; return its exit code."""
        return self._child.join()

    def _start(self) -> DaemonRunner:
        """Start a child. ClosedError after `hang_up`, DaemonError if there can be none."""
        with self._lock:
            if self._closed:
                raise ClosedError("the workers are closed")
            self._child = Child(self._num_workers)
            link = Link(self._child.wire, "a worker")
            if self._contents:
                link.keep(self._program, self._contents)
            self.runner = DaemonRunner(link, self._base, self._replace)
            return self.runner

    def _replace(self) -> DaemonRunner:
        """Return the successor of a child that died, once it has loaded.

        DaemonError if too many died in a row, or the error of its load; `check` raises it, too.
        """
        self.check()
        try:
            code = self.join()
            self.num_deaths += 1
            if self.num_deaths >= _MAX_DEATHS:
                raise DaemonError(
                    f"{self.num_deaths} workers in a row ended without a result, the last "
                    f"{f'by signal {-code}' if code < 0 else f'with exit code {code}'}",
                    hint="Each holds the base in memory: there may be no room for so many.",
                )
            runner = self._start()
            runner.begin_open(self._program)
            _ = runner.opened
        except PawError as error:
            self._failure = error.record()
            raise
        return runner


def _is_answered(future: Future[Result]) -> bool:
    """Whether a call that has ended brought a result, or an error of its own."""
    return not future.cancelled() and not isinstance(future.exception(), DaemonError)


def _close(workers: Sequence[_Worker], pid: int) -> None:
    """End workers; in a process forked from theirs, let go of them."""
    for worker in workers:
        worker.hang_up()
    if os.getpid() == pid:
        for worker in workers:
            worker.join()
