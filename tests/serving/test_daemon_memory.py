"""All that clients of a daemon ask at once fits in one room, and leaves it with them."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny
from http_servers import LONG

from paw_mlx import formats
from paw_mlx.client.protocol import HELLO
from paw_mlx.client.wire import Wire
from paw_mlx.errors import DaemonError
from paw_mlx.functions import Function
from paw_mlx.serving.daemon import server
from paw_mlx.serving.daemon.log import Log
from paw_mlx.serving.daemon.server import Server

ROOM = 1 << 20
LONG_CHARS = 1 << 16
PAD = "x" * (ROOM // 4 - (20 << 10))  # of a call: four of them fit
SOME = {"max_tokens": 200}
ALL_S = 120  # for whatever has to come


class Daemon:
    """A daemon in a thread of this process, whose clients are connected already."""

    def __init__(self, folder: Path, base: Path) -> None:
        self.folder, self.base = folder, base
        made = replace(tiny.program("llama", 1), interpreter=str(base))
        formats.save(made, folder / "one.paw", dtype="f32", profile=tiny.profile("llama"))
        self._attending = list[tuple[Wire, Future[None]]]()
        self._begun = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        with closing(Log(self.folder / "log")) as log:
            self._server = Server(self.folder, log, held_bytes=ROOM)
            self._begun.set()
            await self._ended.wait()
            await self._server.end()

    def client(self) -> Wire:
        """Return a client that has said hello, and put the program."""
        ours, theirs = socket.socketpair()
        attending = self._server.attend(theirs)
        wire = Wire(ours)
        future = asyncio.run_coroutine_threadsafe(attending, self._loop)
        self._attending.append((wire, future))
        wire.socket.settimeout(ALL_S)
        wire.send(HELLO)
        assert wire.receive()["op"] == "hello"
        wire.send({"op": "put", "id": 0, "key": "one"}, (self.folder / "one.paw").read_bytes())
        status(wire)
        return wire

    def ask(self, wire: Wire, number: int, **changes: Any) -> None:
        """Ask for a call whose message is large, though its input is not."""
        program = {"key": "one", "interpreter": str(self.base), "pad": PAD}
        call = {"op": "run", "id": number, "program": program, "input": "the disk", "options": SOME}
        wire.send(call | changes)

    def outcomes(self) -> list[str]:
        """Return how calls ended, as the log has it."""
        lines = (json.loads(line) for line in (self.folder / "log").read_text().splitlines())
        return [line["outcome"] for line in lines if line["event"] == "call"]

    def __enter__(self) -> Daemon:
        self._thread.start()
        assert self._begun.wait(ALL_S)
        return self

    def __exit__(self, *_: object) -> None:
        for wire, attending in self._attending:
            wire.close()
            attending.result(ALL_S)
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()


@pytest.fixture
def daemon(tmp_path: Path, base: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path, base) as daemon:
        yield daemon


def status(wire: Wire) -> dict[str, Any]:
    wire.send({"op": "status", "id": 0})
    return wire.receive()["status"]


@contextmanager
def sending(*works: Callable[[], None]) -> Iterator[None]:
    """Do some work in threads of its own during the block, which may end it."""
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + ALL_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_calls_of_all_clients_share_the_room_and_all_are_answered(daemon: Daemon) -> None:
    """Whoever asks what the daemon does is answered while it is full."""
    clients = [daemon.client() for _ in range(3)]
    numbers, most = [*range(1, 9)], 0

    def ask(wire: Wire) -> None:
        for number in numbers:
            daemon.ask(wire, number)

    asking = [partial(ask, wire) for wire in clients]
    with closing(daemon.client()) as other, sending(*asking):
        while (found := status(other))["num_calls"] < 24 or found["num_running"]:
            most = max(most, found["num_running"])
            time.sleep(0.01)
    assert 1 < most <= 4
    for wire in clients:
        with closing(wire):
            answers = [wire.receive() for _ in numbers]
        assert sorted(answer["id"] for answer in answers) == numbers
        assert {answer["op"] for answer in answers} == {"result"}


def test_a_call_that_is_larger_than_the_room_is_answered(daemon: Daemon) -> None:
    with closing(daemon.client()) as wire:
        for number in (1, 2, 3):
            daemon.ask(wire, number, input="disk " * (ROOM // 4))
            daemon.ask(wire, 10 + number)
        answers = {answer["id"]: answer["op"] for answer in (wire.receive() for _ in range(6))}
    assert answers == dict.fromkeys((1, 2, 3), "error") | dict.fromkeys((11, 12, 13), "result")


def test_small_calls_take_room_too(daemon: Daemon) -> None:
    """Each is a task and its frames: there is room for some dozens, not for thousands."""
    with closing(daemon.client()) as wire, closing(daemon.client()) as other:
        program = {"key": "one", "interpreter": str(daemon.base)}
        for number in range(1, 201):
            daemon.ask(wire, number, program=program, input="x", options=LONG)
        until(lambda: status(other)["num_running"] > 8)
        time.sleep(0.3)
        assert status(other)["num_running"] <= ROOM >> 14


def test_long_texts_keep_nobody_elses_call_waiting(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten of them, where four threads make calls."""
    go, submit = threading.Event(), Function.submit

    def waiting(fn: Function, text: str, *more: Any, **options: Any) -> Future[Any]:
        assert len(text) < LONG_CHARS or go.wait(ALL_S)
        return submit(fn, text, *more, **options)

    monkeypatch.setattr(Function, "submit", waiting)
    monkeypatch.setattr(server, "_THREADS", 4)
    program = {"key": "one", "interpreter": str(base)}
    with (
        Daemon(tmp_path, base) as daemon,
        closing(daemon.client()) as wire,
        closing(daemon.client()) as other,
    ):
        for number in range(1, 11):
            daemon.ask(wire, number, program=program, input="x" * LONG_CHARS)
        daemon.ask(other, 1, program=program)
        assert other.receive()["op"] == "result"
        go.set()
        assert {wire.receive()["op"] for _ in range(10)} <= {"result", "error"}


def test_a_client_that_hangs_up_while_it_waits_leaves_the_room_at_once(daemon: Daemon) -> None:
    wire, other = daemon.client(), daemon.client()
    for number in range(1, 5):
        daemon.ask(wire, number, input="x", options=LONG)
    until(lambda: status(other)["num_running"] == 4)

    def fifth() -> None:
        with suppress(DaemonError):  # it is not read to its end
            daemon.ask(wire, 5)

    with closing(wire), closing(other), sending(fifth):
        daemon.ask(other, 1)
        time.sleep(0.2)
        wire.hang_up()
        assert other.receive()["op"] == "result"
    until(lambda: len(daemon.outcomes()) == 5)
    assert daemon.outcomes().count("cancelled") == 4  # and none went on to its end
