"""A connection to the daemon for any number of threads: requests out, answers to those who wait.

One thread sends and one receives, and neither waits for the other: the daemon reads no further
while its answers are not read.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

from ..errors import ClosedError, DaemonError, FormatError, OptionError, PawError
from ..program import Program
from .contents import Contents
from .protocol import pack
from .wire import Wire

Message = dict[str, Any]


@dataclass
class Waiting:
    """A request under way: who waits, what it was, and who hears of its pieces."""

    future: Future[Message]
    request: Message
    program: Program
    on_piece: Callable[[str | None], None] | None = None
    heard: bool = False  # a piece of it: it cannot be begun again


class Link:
    """One connection for any number of threads and programs. `close` hangs up.

    `peer` is how errors call who answers.
    """

    def __init__(self, wire: Wire, peer: str = "the daemon") -> None:
        self._wire, self._peer, self._pid = wire, peer, os.getpid()
        self._ids = count(1)
        self._waiting: dict[int, Waiting] = {}
        self._contents: WeakKeyDictionary[Program, Contents] = WeakKeyDictionary()
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._lock = threading.RLock()  # a collection while it is held may close this
        self.lost: PawError | None = None
        self.on_lost: Callable[[list[Waiting]], None] | None = None  # who runs them instead
        self._receiver, self._sender = (
            threading.Thread(target=target, name="paw-mlx-daemon", daemon=True)
            for target in (self._receive, self._send)
        )
        self._sender.start()
        self._receiver.start()

    def keep(self, program: Program, contents: Contents) -> None:
        """Say where the bytes of a program are."""
        with self._lock:
            self._contents[program] = contents

    def request(
        self,
        op: str,
        program: Program,
        settings: Message,
        asked: Message | None = None,
        on_piece: Callable[[str | None], None] | None = None,
    ) -> Future[Message]:
        """Send a request; the future brings its answer, or its error. Cancelling it is told.

        ClosedError in a child forked from the process that made the connection.
        """
        if self._pid != os.getpid():
            raise ClosedError(
                f"this process was forked from one that is connected to {self._peer}",
                hint="Connect again in the child.",
            )
        told = {"key": self._contents_of(program).key, "output": program.output.record()}
        request = {"op": op, "program": told | settings, **(asked or {})}
        waiting = Waiting(Future(), request, program, on_piece)
        number = next(self._ids)
        waiting.future.add_done_callback(lambda future: self._ended(number, future))
        self._ask(number, waiting)
        return waiting.future

    def check_caller(self) -> None:
        """OptionError in the thread that receives, which would wait for itself."""
        if threading.current_thread() is self._receiver:
            raise OptionError(
                "a call waits for itself: this is the thread that hears the daemon's answers",
                hint="In a callback, submit calls and do not wait for them.",
            )

    def close(self) -> None:
        """Hang up; what waits fails with ClosedError."""
        if self._pid != os.getpid():  # the connection stays the parent's
            self._wire.socket.close()
            return
        with self._lock:
            if self.lost is None:
                self.lost = ClosedError(f"the connection to {self._peer} was closed")
        self._wire.hang_up()

    def _ask(self, number: int, waiting: Waiting) -> None:
        """Send a request, or hand it to whoever takes over where the daemon is gone."""
        data = pack({**waiting.request, "id": number})
        with self._lock:
            if self.lost is None:
                self._waiting[number] = waiting
                self._outgoing.put(data)
                return
            lost = self.lost
        self._take_over([waiting], lost)

    def _take_over(self, left: list[Waiting], error: PawError) -> None:
        """Hand on what the daemon does not do, for a reason; without whoever could, it fails."""
        if self.on_lost and not isinstance(error, ClosedError):
            self.on_lost(left)
            return
        for waiting in left:  # each has an error of its own: one that is kept would keep frames
            settle(waiting.future, PawError.of(error.record()))

    def _contents_of(self, program: Program) -> Contents:
        """Return where a program's bytes are; one of another type of outputs has the same."""
        with self._lock:
            alike = (kept for one, kept in self._contents.items() if one.is_typed(program))
            found = self._contents.get(program) or next(alike, None)
        found = found or Contents.of(program)
        with self._lock:
            return self._contents.setdefault(program, found)

    def _ended(self, number: int, future: Future[Message]) -> None:
        """Forget a request; tell the daemon if it was cancelled."""
        if self._pid == os.getpid():
            with self._lock:
                known = self._waiting.pop(number, None)
            if known and future.cancelled():
                self._outgoing.put(pack({"op": "cancel", "id": number}))

    def _send(self) -> None:
        """Send what goes out; that it cannot be sent shows in what is received."""
        with suppress(DaemonError):
            while data := self._outgoing.get():
                self._wire.send_packed(data)
        self._wire.hang_up()

    def _receive(self) -> None:
        error: PawError
        try:
            while True:
                self._take(self._wire.receive())
        except PawError as caught:
            error = caught
        with self._lock:
            self.lost = error = self.lost or error
            left = list(self._waiting.values())
            self._waiting.clear()
        self._wire.hang_up()
        self._outgoing.put(None)
        self._sender.join()
        self._wire.socket.close()
        if left:
            self._take_over(left, error)

    def _take(self, message: Message) -> None:
        """Give a message to who waits for it, and what goes wrong with it, too."""
        number = message.get("id")
        with self._lock:
            waiting = self._waiting.get(number) if isinstance(number, int) else None
        if waiting is None:  # cancelled meanwhile
            return
        try:
            self._answer(waiting, message)
        except Exception as error:  # also a bug of ours: this thread has to go on
            settle(waiting.future, error)

    def _answer(self, waiting: Waiting, message: Message) -> None:
        op = message.get("op")
        if op == "piece":
            waiting.heard = True
            if waiting.on_piece:
                waiting.on_piece(str(message["text"]))
        elif op == "unknown":
            self._put(waiting, message["id"])
        elif op == "error":
            settle(waiting.future, PawError.of(message["error"]))
        else:
            settle(waiting.future, message)

    def _put(self, waiting: Waiting, number: int) -> None:
        """Send a program's bytes and ask again; what no message holds is not for the daemon."""
        contents = self._contents_of(waiting.program)
        data = contents.read(waiting.program)
        try:
            put = pack({"op": "put", "key": contents.key, "id": number}, len(data))
        except FormatError as error:
            self._take_over([waiting], error)
            return
        self._outgoing.put(put + data + pack({**waiting.request, "id": number}))


def settle(future: Future[Message], answer: Message | BaseException) -> None:
    """Give a future its answer, unless whoever waits has cancelled it."""
    with suppress(InvalidStateError):
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)
