"""One client of the daemon, from its hello until it hangs up, which cancels what it asked for.

A client that does not read its answers is not read, either, nor one whose call finds no room beside
those of all clients.
"""

from __future__ import annotations

import asyncio
import select
import time
import traceback
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from ... import settings
from ...client.protocol import HEAD, HELLO, HELLO_BYTES, pack, sizes, unpack
from ...errors import FormatError, PawError
from ...functions import Function
from ...runner import Options, Result
from ..room import CALL_BYTES
from ..waiting import result_of
from .requests import House, Message, answer_of, doubts_of, find_function, key_of, read_call
from .threads import Threads

HELLO_S = 10.0  # for a client to say hello
END_S = 60.0  # for calls to end when the daemon does
_LARGE_BYTES = 1 << 16  # what a reader holds anyway
_LONG_CHARS = 1 << 16  # of an input
_LARGE_S = 30.0  # for a large message to arrive
_LOOK_S = 1.0  # between two looks whether a client is still there
_FLUSH_S = 5.0  # for the last answers to be read
_HUNG_UP = (asyncio.IncompleteReadError, ConnectionError, TimeoutError)


class Session:
    """A client's connection."""

    def __init__(
        self, house: House, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._house, self._reader, self._writer = house, reader, writer
        self.calls: dict[int, asyncio.Task[None]] = {}
        self._held = 0  # bytes, of the house's room
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Answer requests until the client hangs up, or says what nobody understands.

        Cancelled, for the daemon ends, it lets the calls end first.
        """
        try:
            await self._greet()
            while True:
                await self._writer.drain()
                await self._hear()
        except _HUNG_UP:
            pass
        except FormatError as error:
            self._house.log("refused", error=str(error))
        except asyncio.CancelledError:
            if self.calls:
                await asyncio.wait(self.calls.values(), timeout=END_S)
        finally:
            for task in list(self.calls.values()):
                task.cancel()
            await asyncio.gather(*self.calls.values(), return_exceptions=True)
            self._let_go(self._held)
            await self._hang_up()

    async def _greet(self) -> None:
        """Hear who calls. FormatError for anything else."""
        async with asyncio.timeout(HELLO_S):
            num_json, num_body = sizes(await self._reader.readexactly(HEAD.size))
            if num_json > HELLO_BYTES or num_body:
                raise FormatError("a client does not begin with hello")
            message = unpack(await self._reader.readexactly(num_json))
        if message.get("op") != "hello":
            raise FormatError("a client does not begin with hello")
        self._send(HELLO | {"device": settings.device()})

    async def _hang_up(self) -> None:
        """Close the connection once what was said has been read, or is not."""
        self._writer.close()
        with suppress(*_HUNG_UP):
            async with asyncio.timeout(_FLUSH_S):
                await self._writer.wait_closed()
        self._writer.transport.abort()

    async def _hear(self) -> None:
        """Take the next message, and a call when there is room: a large one is not read before."""
        num_json, num_body = sizes(await self._reader.readexactly(HEAD.size))
        is_large, held = num_json > _LARGE_BYTES, num_json + CALL_BYTES
        if is_large:
            await self._hold(held)
        async with asyncio.timeout(_LARGE_S if is_large else None):
            message = unpack(await self._reader.readexactly(num_json))
        call = await self._heed(message, num_body)
        if call is None:
            if is_large:
                self._let_go(held)
            return
        if not is_large:
            await self._hold(held)
        number: int = message["id"]
        task = self._loop.create_task(self._guard(number, call, number, message))
        self.calls[number] = task
        task.add_done_callback(lambda _: self._ended(number, held))

    async def _hold(self, num_bytes: int) -> None:
        """Wait for room, for as long as the client is there."""
        if self._house.room.try_take(num_bytes):
            self._held += num_bytes
            return
        taking = self._loop.create_task(self._house.room.take(num_bytes))
        try:
            while not (await asyncio.wait({taking}, timeout=_LOOK_S))[0]:
                if self._is_gone():
                    raise ConnectionResetError
        finally:
            if taking.done():
                self._held += num_bytes
            taking.cancel()

    def _is_gone(self) -> bool:
        """Return whether the client has hung up, which nobody hears who does not read."""
        if self._writer.is_closing():
            return True
        watch = select.poll()
        watch.register(self._writer.get_extra_info("socket"), select.POLLHUP)  # macOS asks for it
        return bool(watch.poll(0))

    def _let_go(self, num_bytes: int) -> None:
        self._held -= num_bytes
        self._house.room.give_back(num_bytes)

    async def _heed(
        self, message: Message, num_body: int
    ) -> Callable[[int, Message], Coroutine[Any, Any, None]] | None:
        """Return what answers a call; None if it is none, and what it asks for is done.

        What it puts is there before the next message is read.
        """
        number, op = message.get("id"), message.get("op")
        if not isinstance(number, int):
            raise FormatError("a request's id is no whole number")
        if num_body and op != "put":
            raise FormatError("bytes follow a message that puts none")
        if op == "cancel":
            if task := self.calls.get(number):
                task.cancel()
            return None
        if op == "put":
            await self._guard(number, self._put, key_of(message), num_body)
            return None
        if op == "status":
            self._send({"id": number, "op": "status", "status": self._house.status()})
            return None
        if op == "stop":
            self._send({"id": number, "op": "ok"})
            self._house.stop()
            return None
        answers = {"run": self._run, "cut": self._cut, "open": self._open}
        if not isinstance(op, str) or op not in answers:
            raise FormatError("nobody knows what a message asks for")
        if number in self.calls:
            raise FormatError("a request has the id of one that is under way")
        return answers[op]

    def _ended(self, number: int, held: int) -> None:
        self.calls.pop(number, None)
        self._let_go(held)

    async def _guard(
        self, number: int, work: Callable[..., Coroutine[Any, Any, None]], *arguments: Any
    ) -> None:
        """Do some work; its errors are the request's."""
        try:
            await work(*arguments)
        except PawError as error:
            self._send({"id": number, "op": "error", "error": error.record()})
        except _HUNG_UP:
            raise
        except Exception as error:  # a bug of ours: the client hears of it, the daemon goes on
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{where.filename}:{where.lineno}"
            self._house.log("bug", error=type(error).__name__, place=place)
            bug = PawError(f"the daemon failed: {type(error).__name__}: {error}")
            self._send({"id": number, "op": "error", "error": bug.record()})

    def _send(self, message: Message) -> None:
        if not self._writer.is_closing():
            self._writer.write(pack(message))

    async def _put(self, key: str, num_bytes: int) -> None:
        async with self._house.putting:
            async with asyncio.timeout(_LARGE_S):
                body = await self._reader.readexactly(num_bytes)
            await self._house.threads.call(self._house.programs.put, key, body)

    async def _open(self, number: int, message: Message) -> None:
        function = await self._function(number, message)
        if function is None:
            return
        threads = self._house.threads
        told = {
            "identity": await threads.call(lambda: function.runner.identity),
            "max_in_flight": await threads.call(lambda: function.runner.max_in_flight),
            "warnings": doubts_of(self._house, function),
        }
        self._send({"id": number, "op": "opened", **told})

    async def _cut(self, number: int, message: Message) -> None:
        if function := await self._function(number, message):
            text, options = read_call(message)
            cut = function.runner.cut_tokens
            tokens = await self._lent(text).call(cut, function.program, text, options)
            self._send({"id": number, "op": "cut", "tokens": tokens})

    async def _run(self, number: int, message: Message) -> None:
        begin = time.perf_counter()
        function = await self._function(number, message)
        if function is None:
            return
        text, options = read_call(message)
        self._house.num_calls += 1
        outcome = "cancelled"
        try:
            if message.get("stream"):
                result = await self._stream(number, function, text, options)
            else:
                submitting = self._lent(text).begin(function.submit, text, options)
                result = await result_of(await submitting)
            outcome = result.finish_reason
            self._send(answer_of(self._house, number, function, result))
        except PawError as error:
            outcome = type(error).__name__
            raise
        finally:
            self._house.log(
                "call",
                program=function.program.id,
                outcome=outcome,
                ms=round(1000 * (time.perf_counter() - begin), 1),
            )

    async def _stream(self, number: int, function: Function, text: str, options: Options) -> Result:
        pieces = await self._lent(text).call(function.stream, text, options)

        def pass_on() -> Result:
            for piece in pieces:
                message = {"id": number, "op": "piece", "text": piece}
                self._loop.call_soon_threadsafe(self._send, message)
            return pieces.result

        try:
            return await self._house.streams.call(pass_on)
        finally:
            pieces.close()

    def _lent(self, text: str) -> Threads:
        """Return the threads that tokenize a text: what a long one took, some 100 MB, they keep."""
        return self._house.threads if len(text) < _LONG_CHARS else self._house.few

    async def _function(self, number: int, message: Message) -> Function | None:
        """Return the function that a request is about; None, and it is told, if it is not here."""
        asked = message.get("program")
        if not isinstance(asked, dict):
            raise FormatError("a request names no program")
        function = await self._house.threads.call(find_function, self._house, asked)
        if function is None:
            self._send({"id": number, "op": "unknown"})
        return function
