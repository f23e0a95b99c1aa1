"""The daemon, or a worker, as a `Runner`: the same functions, computed by another process.

When the daemon goes away, what waits is run here instead where `local` says how, once and from
its beginning, and fails with DaemonError otherwise.
"""

from __future__ import annotations

import queue
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, fields
from typing import Any

from ..errors import DaemonError, DriftWarning, PawError
from ..output import Decision, Labels, Output, Probabilities
from ..program import Program
from ..runner import Options, Pieces, Result, Runner, Stream, check_text, failed, take_result
from .link import Link, Message, Waiting, settle

_RESULT = tuple(f.name for f in fields(Result) if f.name not in ("output", "decision"))


class DaemonRunner:
    """Runs programs in the daemon, on the base that `settings` names.

    `local` makes a Runner of this process, should the daemon go away.
    """

    def __init__(
        self, link: Link, settings: Message, local: Callable[[], Runner] | None = None
    ) -> None:
        self._link, self.settings, self._local = link, settings, local
        self._opening: Future[Message] | None = None
        self._taken: Runner | None = None  # what runs here, once the daemon is gone
        self._lock = threading.Lock()
        if local:
            link.on_lost = self._run_here

    def open(self, program: Program) -> None:
        """Have the daemon load a program and its base; what it warns of is warned of here."""
        self.begin_open(program)
        for message in self.opened.get("warnings", ()):
            warnings.warn(str(message), DriftWarning, stacklevel=3)

    def begin_open(self, program: Program) -> None:
        """Have the daemon load a program and its base, and do not wait: `opened` does."""
        self._opening = self._link.request("open", program, self.settings)

    @property
    def opened(self) -> Message:
        """What the daemon said of the base and the program when they were loaded; or its error."""
        return self._opening.result() if self._opening else {}

    @property
    def max_in_flight(self) -> int:
        return int(self.opened.get("max_in_flight", 16))

    @property
    def identity(self) -> dict[str, Any]:
        return dict(self.opened.get("identity", {}))

    def submit(self, program: Program, text: str, options: Options) -> Future[Result]:
        """Hand over one input, as `Runner` has it."""
        try:
            return self._submit(program, text, options, None)
        except PawError as error:
            return failed(error)

    def run(self, program: Program, text: str, options: Options) -> Result:
        """Return the output for one input."""
        if self._taken:
            return self._taken.run(program, text, options)
        self._link.check_caller()
        return take_result(self.submit(program, text, options), options)

    def stream(self, program: Program, text: str, options: Options) -> Pieces:
        """Return the output for one input in pieces."""
        if self._taken:
            return self._taken.stream(program, text, options)
        self._link.check_caller()
        pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        future = self._submit(program, text, options, pieces.put)
        future.add_done_callback(lambda _: pieces.put(None))
        return Stream(future, pieces)

    def cut_tokens(self, program: Program, text: str, options: Options) -> int:
        """Return how many tokens of an input `overflow` leaves out."""
        self._link.check_caller()
        asked = {"input": check_text(text), "options": asdict(options)}
        answer = self._link.request("cut", program, self.settings, asked).result()
        return int(answer["tokens"])

    def close(self) -> None:
        """Hang up."""
        self._link.close()
        if self._taken:
            self._taken.close()

    def _submit(
        self,
        program: Program,
        text: str,
        options: Options,
        on_piece: Callable[[str | None], None] | None,
    ) -> Future[Result]:
        asked = {"input": check_text(text), "options": asdict(options), "stream": bool(on_piece)}
        answer = self._link.request("run", program, self.settings, asked, on_piece)
        result: Future[Result] = Future()
        result.add_done_callback(lambda one: answer.cancel() if one.cancelled() else None)
        answer.add_done_callback(lambda one: _pass_on(one, result, program.output))
        return result

    def _run_here(self, left: list[Waiting]) -> None:
        """Run here what the daemon was to run; what that needs is loaded by a thread of its own."""
        if self._taken:
            self._take_over(left)
        else:
            threading.Thread(target=self._take_over, args=(left,), daemon=True).start()

    def _take_over(self, left: list[Waiting]) -> None:
        try:
            with self._lock:
                if self._taken is None:
                    assert self._local
                    self._taken = self._local()
            for waiting in left:
                _begin_again(waiting, self._taken)
        except Exception as error:  # also a bug of ours: whoever waits hears of it
            for waiting in left:
                settle(waiting.future, error)


def _begin_again(waiting: Waiting, runner: Runner) -> None:
    """Run a request of a daemon that is gone by another runner, unless it was half answered."""
    request = waiting.request
    if waiting.heard:
        error = DaemonError("the process that decoded it went away in the middle of the output")
        return settle(waiting.future, error)
    if request["op"] == "open":
        told = {"identity": runner.identity, "max_in_flight": runner.max_in_flight}
        return settle(waiting.future, told)
    options = Options(**request["options"])
    if request["op"] == "cut":
        try:
            tokens = runner.cut_tokens(waiting.program, request["input"], options)
        except PawError as error:
            return settle(waiting.future, error)
        return settle(waiting.future, {"tokens": tokens})
    future = runner.submit(waiting.program, request["input"], options)
    waiting.future.add_done_callback(lambda one: future.cancel() if one.cancelled() else None)
    future.add_done_callback(lambda one: _answer(one, waiting))


def _answer(done: Future[Result], waiting: Waiting) -> None:
    if done.cancelled():
        return
    if error := done.exception():
        settle(waiting.future, error)
    else:
        if waiting.on_piece:
            waiting.on_piece(done.result().text)
        settle(waiting.future, {"record": done.result().record()})


def _pass_on(answer: Future[Message], result: Future[Result], output: Output) -> None:
    if answer.cancelled():
        result.cancel()
    if not result.set_running_or_notify_cancel():  # whoever waits for it hears of it here
        return
    try:
        result.set_result(read_result(answer.result()["record"], output))
    except Exception as error:  # the call's, or a bug of ours: whoever waits hears of it
        result.set_exception(error)


def read_result(record: Message, output: Output) -> Result:
    """Make a result of its record, as `Result.record` gives it, for outputs of a type."""
    found = {name: record[name] for name in _RESULT}
    decision = None
    if isinstance(output, Labels):
        shares = [float(share) for share in record["probabilities"].values()]
        said = record["text"] or None
        decision = Decision(
            value=output.parse(said) if said and said in output.places else said,
            label=record["label"],
            text=record["text"],
            probability=record["probability"],
            probabilities=Probabilities(output, shares),
            in_scope=record["in_scope"],
            abstained=record["abstained"],
        )
    return Result(**found, output=output, decision=decision)
