"""Whoever may call the daemon may say anything to it: it answers, or hangs up, and goes on."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from random import Random
from typing import Any

import pytest
from daemons import LABELS, Place
from leftovers import rss

from paw_mlx.client import places
from paw_mlx.client.protocol import HELLO, MAX_BODY_BYTES, MAX_JSON_BYTES, pack
from paw_mlx.client.stamps import file_key
from paw_mlx.client.wire import Wire
from paw_mlx.errors import DaemonError

TEXT = "the disk is full"
MANY = int(os.environ.get("PAW_MLX_TEST_CONNECTIONS", "300"))


@pytest.fixture(scope="module")
def running(place: Place) -> Iterator[Place]:
    """A daemon in the background, so that what it says goes to its log."""
    assert place.paw("daemon", "start").returncode == 0
    yield place
    assert place.paw("daemon", "stop").stdout == b"stopped\n"


@pytest.fixture(scope="module")
def expected(place: Place) -> str:
    """What the program `one` says, without the daemon."""
    said = place.call("run", "one", TEXT, "--max-tokens", 4, "--local", "--json").stdout
    return json.loads(said)["text"]


@pytest.fixture(autouse=True)
def goes_on(
    running: Place, expected: str, homes: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """After every test the same daemon answers as before, and has met no bug of its own."""
    monkeypatch.setenv("PAW_MLX_HOME", running.environment["PAW_MLX_HOME"])
    with closing(greeted()) as wire:
        pid = status(wire)["pid"]
        put(running, wire)
    yield
    with closing(greeted()) as wire:
        wire.send(asking(running))
        while (answer := wire.receive())["op"] == "unknown":
            put(running, wire)
            wire.send(asking(running))
        assert answer["record"]["text"] == expected
        deadline = time.monotonic() + 10
        while (found := status(wire))["num_running"] and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (found["pid"], found["num_running"]) == (pid, 0)
    assert [event for event in logged() if event["event"] == "bug"] == []


def logged() -> list[dict[str, Any]]:
    """Return what the daemon's log says: JSON in every line, and no traceback."""
    return [json.loads(line) for line in places.log_path().read_text().splitlines()]


def raw() -> Wire:
    """Return a connection of somebody who has said nothing yet."""
    wire, deadline = Wire(socket.socket(socket.AF_UNIX)), time.monotonic() + 30
    wire.socket.settimeout(30)
    while True:
        try:
            wire.socket.connect(str(places.socket_path()))
            return wire
        except BlockingIOError:  # others are to be accepted first
            if time.monotonic() > deadline:
                wire.close()
                raise
            time.sleep(0.005)


def greeted() -> Wire:
    """Return a connection of a client that has said hello."""
    wire = raw()
    wire.send(HELLO)
    assert wire.receive()["op"] == "hello"
    return wire


def hangs_up(wire: Wire, data: bytes) -> bool:
    """Send bytes; return whether the daemon hangs up, with errors for all that it says."""
    with closing(wire):
        try:
            wire.send_packed(data)
            while wire.receive()["op"] == "error":
                pass
        except DaemonError as error:
            return not isinstance(error.__cause__, TimeoutError)
    return False


def asking(running: Place, number: int = 1, **changes: Any) -> dict[str, Any]:
    """Return a request to run the program `one`, which is put by its file's key."""
    path = running.folder / "one.paw"
    program = {"key": file_key(path), "interpreter": str(running.base)}
    asked = {"op": "run", "id": number, "program": program, "input": TEXT}
    return asked | {"options": {"max_tokens": 4}} | changes


def put(running: Place, wire: Wire) -> None:
    """Put the program `one`; it is there, for every connection, when this returns."""
    path = running.folder / "one.paw"
    wire.send({"op": "put", "id": 0, "key": file_key(path)}, path.read_bytes())
    status(wire)  # which is answered after what was put before it


def status(wire: Wire) -> dict[str, Any]:
    """Return what the daemon says of itself."""
    wire.send({"op": "status", "id": 0})
    return wire.receive()["status"]


def rss_bytes() -> int:
    """Return how much memory the daemon's process has taken."""
    with closing(greeted()) as wire:
        return rss(status(wire)["pid"])


BEGINNINGS = {
    "garbage": Random(1).randbytes(4096),
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "huge JSON": struct.pack(">4sII", b"PAWD", 2**32 - 1, 0),
    "huge body": struct.pack(">4sII", b"PAWD", 2, 2**32 - 1) + b"{}",
    "no object": struct.pack(">4sII", b"PAWD", 2, 0) + b"[]",
    "deep": struct.pack(">4sII", b"PAWD", 900, 0) + b"[" * 900,
    "no hello": pack({"op": "status", "id": 1}),
    "a long hello": pack(HELLO | {"version": "1" * 2000}),
    "a body with hello": pack(HELLO, 10) + bytes(10),
}


@pytest.mark.parametrize("data", BEGINNINGS.values(), ids=BEGINNINGS)
def test_who_does_not_say_hello_is_hung_up_on(data: bytes) -> None:
    assert hangs_up(raw(), data)


AFTERWARDS = BEGINNINGS | {
    "deep JSON": struct.pack(">4sII", b"PAWD", 200_000, 0) + b"[" * 200_000,
    "a long number": struct.pack(">4sII", b"PAWD", 9000, 0) + b'{"id":' + b"1" * 8993 + b"}",
    "no UTF-8": struct.pack(">4sII", b"PAWD", 2, 0) + b"\xff\xfe",
    "no id": pack({"op": "run"}),
    "a text for an id": pack({"op": "run", "id": "1"}),
    "no op": pack({"id": 1}),
    "an unknown op": pack({"id": 1, "op": "exec"}),
    "an op of lists": pack({"id": 1, "op": json.loads("[" * 900 + "]" * 900)}),
    "a body for nothing": pack({"id": 1, "op": "run"}, 5) + b"12345",
    "a key of a surrogate": pack({"id": 1, "op": "put", "key": "\ud800"}),
    "a long key": pack({"id": 1, "op": "put", "key": "k" * 100_000}),
    "no key": pack({"id": 1, "op": "put"}),
    "one id twice": 2 * pack({"id": 1, "op": "open", "program": {}}),
}
del AFTERWARDS["a long hello"], AFTERWARDS["no hello"]


@pytest.mark.parametrize("data", AFTERWARDS.values(), ids=AFTERWARDS)
def test_who_says_what_nobody_understands_is_hung_up_on(data: bytes) -> None:
    assert hangs_up(greeted(), data)
    assert logged()[-1]["event"] == "refused"


WRONG = {
    "no program": {"program": None},
    "a program of no key": {"program": {}},
    "a key of lists": {"program": {"key": [[]]}},
    "no input": {"input": None},
    "a surrogate": {"input": "\ud800"},
    "no options": {"options": None},
    "unknown options": {"options": {"max_token": 3}},
    "half a token": {"options": {"max_tokens": 2.5}},
    "half a seed": {"options": {"seed": 1.5, "temperature": 1.0}},
    "a seed of text": {"options": {"seed": "7", "temperature": 1.0}},
    "a temperature of text": {"options": {"temperature": "0"}},
    "no temperature": {"options": {"temperature": None}},
    "not a number": {"options": {"temperature": float("nan")}},
    "a time of text": {"options": {"timeout_s": "1"}},
    "no end of time": {"options": {"timeout_s": 1e300}},
    "a time that no float holds": {"options": {"timeout_s": 10**400}},
    "a temperature that no float holds": {"options": {"temperature": 10**400}},
    "overflow of lists": {"options": {"overflow": [[]]}},
    "a threshold of text": {"options": {"threshold": "0.5"}},
    "labels for a text": {"options": {"threshold": 0.5}},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_a_wrong_request_is_an_error_and_nobody_elses(running: Place, changes: Any) -> None:
    with closing(greeted()) as wire, closing(greeted()) as other:
        other.send(asking(running, options={"max_tokens": 60}))
        wire.send(asking(running, 2) | changes)
        answer = wire.receive()
        assert (answer["op"], answer["id"]) == ("error", 2)
        assert answer["error"]["code"] in ("FormatError", "OptionError")
        assert other.receive()["op"] == "result"
        wire.send(asking(running, 3))
        assert wire.receive()["op"] == "result"


def fuzzed(chance: Random, running: Place) -> bytes:
    """Return a message in which some things are others, or other things are missing."""
    odd = (
        "\ud800",
        "x" * 5000,
        "\0",
        10**40,
        -1,
        0,
        1.5,
        True,
        None,
        [],
        {},
        [[{}]],
        str(running.base),
    )
    message = asking(running, chance.choice([1, 2, 3]))
    message["op"] = chance.choice(["run", "cut", "open", "cancel", "put", "status", "run", "run"])
    message["stream"] = chance.choice([True, False])
    message["options"] |= {"temperature": 1.0, "seed": 3, "overflow": "tail"}
    message["program"] |= {"bits": None, "group_size": 64, "strict": False, "offline": True}
    message["program"]["output"] = {"type": "labels", "labels": [*LABELS], "threshold": 0.1}
    places = [message, message["program"], message["options"], message["program"]["output"]]
    for _ in range(chance.randint(0, 3)):
        place = chance.choice(places)
        name = chance.choice([*place, "key", "device"])
        if chance.random() < 0.2:
            place.pop(name, None)
        else:
            place[name] = chance.choice(odd)
    data = bytearray(pack(message))
    if chance.random() < 0.1:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def test_hundreds_of_odd_messages_are_answered_or_refused(running: Place) -> None:
    chance, answers = Random(16), set[str]()
    with closing(greeted()) as good:
        put(running, good)
        good.send(asking(running))
        expected = good.receive()["record"]["text"]
        for number in range(400):
            with closing(greeted()) as wire:
                wire.socket.settimeout(0.02)
                with suppress(DaemonError):
                    for _ in range(4):
                        wire.send_packed(fuzzed(chance, running))
                    while True:
                        answers.add(wire.receive()["op"])
            if number % 20 == 0:
                good.send(asking(running, number))
                assert good.receive()["record"]["text"] == expected
    assert answers >= {"error", "result", "opened", "cut", "status", "piece"}


def test_hostile_programs_are_errors_and_leave_nothing_on_the_disk(running: Place) -> None:
    chance, original = Random(3), (running.folder / "labels.paw").read_bytes()
    with closing(greeted()) as wire:
        for number in range(1, 120):
            data = bytearray(
                original[: chance.randrange(len(original))] if number % 3 else original
            )
            for _ in range(chance.randint(1, 20)):
                data[chance.randrange(len(data) or 1) : 1] = chance.randbytes(1)
            key = f"hostile-{number}"
            wire.send({"op": "put", "id": number, "key": key}, bytes(data))
            wire.send(asking(running, 1000 + number, program={"key": key, "interpreter": "none"}))
            while (answer := wire.receive())["id"] == number:
                assert answer["error"]["code"] != "PawError", answer
    folder = places.folder() / "programs"
    kept = {path.name for path in folder.iterdir()}
    assert not any("paw-" in name for name in kept)
    assert len(kept) <= 64


def test_a_client_that_puts_for_ever_fills_neither_disk_nor_memory(running: Place) -> None:
    data = (running.folder / "one.paw").read_bytes()
    before = rss_bytes()
    with closing(greeted()) as wire:
        for number in range(1, 300):
            key = f"again-{number}"
            wire.send({"op": "put", "id": number, "key": key}, data)
            output = {"type": "labels", "labels": [f"{number} a", f"{number} b"]}
            program = {"key": key, "interpreter": str(running.base), "output": output}
            wire.send(asking(running, number, program=program, op="open"))
            assert wire.receive()["op"] == "opened"
    assert len([*(places.folder() / "programs").iterdir()]) <= 64
    assert rss_bytes() - before < 150e6


def test_a_body_as_large_as_may_be_is_refused_in_bounded_memory(running: Place) -> None:
    before, block = rss_bytes(), bytes(1 << 20)
    with ExitStack() as stack:
        for _ in range(8):
            wire = stack.enter_context(closing(greeted()))
            wire.send_packed(pack({"op": "put", "id": 1, "key": "huge"}, MAX_BODY_BYTES))
            wire.socket.settimeout(0.5)
            with suppress(DaemonError):  # only some are read at once
                for _ in range(60):
                    wire.send_packed(block)
        assert rss_bytes() - before < 300e6
    wire = greeted()
    with closing(wire):
        wire.send_packed(pack({"op": "put", "id": 1, "key": "huge"}, MAX_BODY_BYTES))
        for _ in range(MAX_BODY_BYTES >> 20):
            wire.send_packed(block)
        assert wire.receive()["error"]["code"] in ("FormatError", "UnknownLayout")


def test_an_input_as_long_as_may_be_is_refused_in_bounded_memory(running: Place) -> None:
    with closing(greeted()) as wire:
        put(running, wire)
        wire.send(asking(running, input="d " * (MAX_JSON_BYTES // 2 - 500)))
        assert wire.receive()["error"]["code"] == "InputTooLong"


@pytest.mark.slow
def test_half_open_connections_keep_nobody_out_for_long(running: Place) -> None:
    before = rss_bytes()
    with ExitStack() as stack:
        for number in range(MANY):
            wire = stack.enter_context(closing(raw()))
            with suppress(DaemonError):
                wire.send_packed(pack(HELLO)[: number % 20])
        assert running.call("run", "one", TEXT).returncode == 0
        deadline = time.monotonic() + 30
        while running.status().get("num_clients") != 1 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert running.status()["num_clients"] == 1
        assert rss_bytes() - before < 200e6


def test_who_does_not_read_is_not_read(running: Place) -> None:
    """Requests that are never heard pile up in their sender, and not in the daemon."""
    before = rss_bytes()
    with closing(greeted()) as wire, closing(greeted()) as other:
        put(running, wire)
        wire.socket.settimeout(1)
        one = b"".join(pack({"op": "status", "id": number}) for number in range(1000))
        with suppress(DaemonError):
            for _ in range(300):
                wire.send_packed(one)
            pytest.fail("the daemon read on")
        other.send(asking(running))
        assert other.receive()["op"] == "result"
        assert rss_bytes() - before < 100e6


def test_streams_that_nobody_reads_are_no_burden(running: Place) -> None:
    before = rss_bytes()
    with closing(greeted()) as wire, closing(greeted()) as other:
        put(running, wire)
        wire.socket.settimeout(2)
        with suppress(DaemonError):
            for number in range(1, 600):
                options = {"max_tokens": 40, "temperature": 2.0}
                wire.send(asking(running, number, options=options, stream=True))
        other.send(asking(running))
        assert other.receive()["op"] == "result"
        assert rss_bytes() - before < 150e6


def test_a_storm_of_cancels_leaves_nothing_running(running: Place) -> None:
    chance = Random(5)
    with closing(greeted()) as wire:
        put(running, wire)
        for number in range(1, 1200):
            options = {"max_tokens": 200, "temperature": 2.0}
            wire.send(asking(running, number, options=options, stream=number % 3 == 0))
            time.sleep(chance.choice([0, 0.0002, 0.001]))
            wire.send({"op": "cancel", "id": number})
        wire.send(asking(running, 5000))
        while (answer := wire.receive())["id"] != 5000:
            pass
        assert answer["op"] == "result"
        time.sleep(0.3)
        found = status(wire)
        assert found["num_running"] == 0
        assert found["bases"][0]["idle_s"] > 0  # nor is anything computed for nobody
