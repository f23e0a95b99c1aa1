"""Connections that say nothing, little, or take nothing, and a server that ends."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from half_open import half_open
from http_servers import (
    LONG,
    Served,
    http_process,
    http_server,
    read_all,
    store_functions,
    write_base,
)

from paw_mlx.serving.http.state import Limits

RUN = "/paw/v1/run/words"
ONE = {"input": "x", "options": {"max_tokens": 1}}
QUICK = Limits(header_s=0.5, body_s=0.5, write_s=0.5)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@contextmanager
def quick(base: Path) -> Iterator[Served]:
    """A server that waits for half a second."""
    store_functions(base)
    with http_server(limits=QUICK) as server:
        yield server


def drip(connection: socket.socket, data: bytes) -> float:
    """Send a byte every 50 ms; return the seconds until the server had enough."""
    begin = time.monotonic()
    with suppress(OSError):
        for number in range(len(data)):
            connection.sendall(data[number : number + 1])
            time.sleep(0.05)
            connection.setblocking(False)
            with suppress(BlockingIOError):
                if not connection.recv(1000):
                    break
            connection.setblocking(True)
    return time.monotonic() - begin


@pytest.mark.parametrize("before", [b"", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_a_head_that_comes_byte_by_byte_is_not_waited_for(base: Path, before: bytes) -> None:
    """Slow loris, also behind a request that was answered."""
    with quick(base) as server, server.connect() as connection:
        if before:
            connection.sendall(before)
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        seconds = drip(connection, b"GET /health HTTP/1.1\r\nX: " + b"x" * 100)
        assert 0.4 < seconds < 2
        assert server.number('paw_connections_dropped_total{reason="silent"}') == 1


def test_a_body_that_stalls_is_refused(base: Path) -> None:
    with quick(base) as server:
        head = f"POST {RUN} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
        answer = server.send(f"{head}{{".encode())
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"for 0.5 s" in answer


def test_a_refused_body_is_not_passed_over_for_ever(base: Path) -> None:
    with quick(base) as server, server.connect() as connection:
        head = "POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 404")
        assert 0.4 < drip(connection, b"x" * 100) < 2


def test_whoever_takes_no_answer_is_dropped(base: Path) -> None:
    with quick(base) as server, server.connect() as connection:
        head = "POST /paw/v1/map/words?max_tokens=1 HTTP/1.1\r\nHost: localhost\r\n"
        row = b'"' + b"disk " * 200 + b'"\n'
        with pytest.raises(OSError):
            _pour(connection, f"{head}Content-Length: 1000000000\r\n\r\n".encode(), row * 50)
        assert server.number('paw_connections_dropped_total{reason="slow_reader"}') == 1
        assert server.post(RUN, ONE).is_success


def _pour(connection: socket.socket, head: bytes, rows: bytes) -> None:
    connection.sendall(head)
    while True:
        connection.sendall(rows)


def test_new_connections_come_in_where_all_are_taken_by_silent_ones(base: Path) -> None:
    store_functions(base)
    with http_server(limits=Limits(connections=20)) as server:
        silent = [server.connect() for _ in range(100)]
        assert server.post(RUN, ONE).is_success
        time.sleep(0.2)
        assert server.number("paw_connections_open") <= 20
        assert server.number('paw_connections_dropped_total{reason="too_many"}') >= 80
        for connection in silent:
            connection.close()


@pytest.mark.slow
def test_a_connection_in_use_is_not_dropped_for_a_new_one(base: Path) -> None:
    store_functions(base)
    body = {"input": "x", "options": {"max_tokens": 1500}}
    with http_server(limits=Limits(connections=3)) as server, ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(server.post, RUN, body) for _ in range(2)]
        while server.number("paw_calls_in_flight") < 2:
            time.sleep(0.01)
        for _ in range(20):
            server.connect().close()
        assert [call.result().json()["output_tokens"] for call in calls] == [1500, 1500]


def test_hundreds_of_half_open_connections_keep_nobody_out(base: Path) -> None:
    store_functions(base)
    with http_process() as (server, _), half_open(server.port, 400):
        begin = time.monotonic()
        for _ in range(5):
            assert server.post(RUN, ONE).is_success
        assert time.monotonic() - begin < 10


def test_what_is_no_http_is_told_so(base: Path) -> None:
    with quick(base) as server:
        for data in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"\x00" * 100 + b"\r\n\r\n"):
            assert server.send(data).startswith(b"HTTP/1.1 400")
        large = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000
        assert server.send(large).startswith(b"HTTP/1.1 4")
        upgrade = (
            "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        )
        assert server.send(f"{upgrade}\r\n".encode()).startswith(b"HTTP/1.1 307")


POST = b"POST /paw/v1/%s/words HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
LATER = b"POST /paw/v1/map/words?max_tokens=1 HTTP/1.1\r\n" + POST.partition(b"\r\n")[2]


@pytest.mark.parametrize(
    ("head", "first", "told"),
    [
        (POST % b"run", b"", b"HTTP/1.1 400 "),  # while it waits for the body
        (POST % b"none", b"", b"HTTP/1.1 "),  # when it was answered, or just before
        (LATER, b'6\r\n"disk"\r\n', b"HTTP/1.1 "),  # amid its answer
    ],
)
def test_a_body_that_is_none_is_refused_and_no_fault_of_the_server(
    base: Path, head: bytes, first: bytes, told: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store_functions(base)
    with http_server() as server:
        assert server.send(head + b"no chunk\r\n\r\n").startswith(told)
        with server.connect() as connection:
            connection.sendall(head + first)
            time.sleep(0.3)
            with suppress(ConnectionError):
                connection.sendall(b"no chunk\r\n\r\n")
            assert read_all(connection)[:9] in (b"", b"HTTP/1.1 ")
        assert server.post(RUN, ONE).status_code == 200
        assert server.number("paw_in_flight") == 1  # that it is asked
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_server_that_ends_finishes_its_calls(
    base: Path, number: signal.Signals, code: int
) -> None:
    store_functions(base)
    body = {"input": "x", "options": {"max_tokens": 2000}}
    with http_process() as (server, process), ThreadPoolExecutor(1) as pool:
        assert server.post(RUN, ONE).is_success
        call = pool.submit(server.post, RUN, body)
        while not server.number("paw_calls_in_flight"):
            time.sleep(0.01)
        process.send_signal(number)
        assert call.result().json()["output_tokens"] == 2000
        assert process.wait(20) == code
        with pytest.raises(OSError):
            server.connect()
        assert b"Traceback" not in process.stderr.read()


def test_a_second_signal_ends_it_at_once(base: Path) -> None:
    store_functions(base)
    with http_process() as (server, process), server.connect() as connection:
        assert server.post(RUN, ONE).is_success
        content = f'{{"input": "x", "options": {{"max_tokens": {LONG["max_tokens"]}}}}}'
        head = f"POST {RUN} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
        connection.sendall(f"{head}{content}".encode())
        while not server.number("paw_calls_in_flight"):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        read_all(connection)
