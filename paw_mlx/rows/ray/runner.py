"""A Ray cluster as a `Runner`: a worker at each place, and functions on them."""

from __future__ import annotations

import queue
import re
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import asdict
from os import PathLike
from typing import Any
from weakref import WeakKeyDictionary, finalize

from ... import settings
from ...annotations import output_of, retype
from ...client.places import absolute
from ...client.runner import read_result
from ...errors import DriftWarning, OptionError, PawError
from ...functions import Function
from ...output import Output, Regex
from ...profiles import base_name
from ...program import Program
from ...progress import Progress, quiet
from ...runner import Options, Pieces, Result, Stream, check_text, failed, take_result
from ...words import counted
from .actor import Worker
from .calls import Job, Message
from .cluster import connect, library
from .dispatch import Dispatcher
from .places import Place, plan
from .programs import Programs


def open_function(
    program: str | PathLike[str] | Program,
    address: str | None = None,
    *,
    num_workers: int | None = None,
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
    """Return a function as `paw_mlx.function` does, whose calls a Ray cluster computes.

    `address` is `local` or None (a Ray of this machine alone, started for it), `auto` (the one that
    runs here), `HOST:PORT` or `ray://HOST:PORT`; in a process that is connected, None is that
    cluster. `num_workers` processes hold the base, each on as much of its node as it gets; None is
    one for each GPU, and for each node without one. The other keywords and errors are those of
    `paw_mlx.function`; the program is found on this machine, the base on each node. Its runner's
    `close` ends the workers, and the connection if it was made here.

    OptionError too if Ray is missing, or nodes hold other bases; DaemonError if no cluster is
    there, or it has no room. Calls raise ClosedError once no worker is left.
    """
    output = output_of(labels, schema, regex)
    programs = Programs()
    found = programs.load(program, offline=offline, progress=progress)
    made = retype(found, output, threshold, otherwise)
    reference = interpreter or base_name(made.interpreter)
    base = base_of(reference, bits, group_size, offline)
    progress(f"connecting to Ray ({address or 'local'})")
    connected = connect(address)
    with ExitStack() as undoing:
        if connected:
            undoing.callback(library().shutdown)
        places = plan(library().nodes(), num_workers)
        progress(f"loading {reference} in {counted(len(places), 'worker')}")
        runner = RayRunner(places, base, programs, disconnect=connected)
        undoing.callback(runner.close)
        for message in runner.check(made, strict=strict):
            warnings.warn(message, DriftWarning, stacklevel=2)
        undoing.pop_all()
    return Function(runner, made)


class RayRunner:
    """Runs programs on workers at these places. `disconnect`: `close` leaves Ray, too.

    Those that `programs` has loaded travel as their files' bytes. `worker` is the class of workers.
    """

    def __init__(
        self,
        places: Sequence[Place],
        base: Message,
        programs: Programs,
        *,
        worker: type[Worker] = Worker,
        disconnect: bool = False,
    ) -> None:
        self.programs = programs
        self._jobs: WeakKeyDictionary[Program, dict[Any, Job]] = WeakKeyDictionary()
        self._dispatcher = Dispatcher(library(), places, base, worker)
        self.close = finalize(self, _close, self._dispatcher, disconnect)
        try:
            told = self._dispatcher.opened.result()
        except BaseException:
            self.close()
            raise
        self.identity = _identity(told)

    @property
    def max_in_flight(self) -> int:
        return self._dispatcher.max_in_flight

    def check(self, program: Program, *, strict: bool = False) -> list[str]:
        """Have a worker check that it can run a program; return what it warns of."""
        told: Message = self._ask("check", program, "", Options(), strict=strict).result()
        return [str(message) for message in told["warnings"]]

    def submit(self, program: Program, text: str, options: Options) -> Future[Result]:
        """Hand over one input, as `Runner` has it."""
        try:
            return self._ask("run", program, check_text(text), options)
        except PawError as error:
            return failed(error)

    def run(self, program: Program, text: str, options: Options) -> Result:
        """Return the output for one input."""
        self._check_caller()
        return take_result(self.submit(program, text, options), options)

    def stream(self, program: Program, text: str, options: Options) -> Pieces:
        """Return the output for one input in one piece: a worker sends it when it is whole."""
        self._check_caller()
        pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        future = self._ask("run", program, check_text(text), options)

        def end(done: Future[Result]) -> None:
            if not done.cancelled() and not done.exception():
                pieces.put(done.result().text)
            pieces.put(None)

        future.add_done_callback(end)
        return Stream(future, pieces)

    def cut_tokens(self, program: Program, text: str, options: Options) -> int:
        """Return how many tokens of an input `overflow` leaves out."""
        self._check_caller()
        return int(self._ask("cut", program, check_text(text), options).result()["tokens"])

    def _ask(
        self, op: str, program: Program, text: str, options: Options, *, strict: bool = False
    ) -> Future[Any]:
        jobs = self._jobs.setdefault(program, {})
        job = jobs.get((op, options))
        if job is None:
            key, data = self.programs.put(program)
            told = {"op": op, "key": key, "output": program.output.record(), "strict": strict}
            read = _reader(program.output) if op == "run" else dict
            job = jobs[op, options] = Job(told | {"options": asdict(options)}, [data], read)
        return self._dispatcher.submit(job, text)

    def _check_caller(self) -> None:
        if threading.current_thread() is self._dispatcher.thread:
            raise OptionError(
                "a call waits for itself: this is the thread that hears the workers' answers",
                hint="In a callback, submit calls and do not wait for them.",
            )


def base_of(reference: str, bits: int | None, group_size: int, offline: bool) -> Message:
    """Return what a worker loads, as `Interpreter.load` takes it."""
    base: Message = {"reference": absolute(reference), "bits": bits, "group_size": group_size}
    return base | {"offline": offline or settings.offline()}


def _reader(output: Output) -> Callable[[Message], Result]:
    return lambda told: read_result(told["record"], output)


def _identity(told: Mapping[str, Message]) -> dict[str, Any]:
    """Return what outputs depend on: the one base, and every form in which nodes hold it."""
    identities = [one["identity"] for one in told.values()]
    forms = sorted({str(identity["form"]) for identity in identities})
    return {"base": identities[0]["base"], "form": "; ".join(forms)}


def _close(dispatcher: Dispatcher, disconnect: bool) -> None:
    dispatcher.close()
    if disconnect:
        library().shutdown()
