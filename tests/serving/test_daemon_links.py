"""A client's end of the connection: many threads, cancels, forks, a daemon that stops or dies."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import pytest
from daemons import Place
from shell import SCRIPT

import paw_mlx as paw
from paw_mlx.client import wire
from paw_mlx.client.connection import open_function
from paw_mlx.client.runner import DaemonRunner
from paw_mlx.functions import Function
from paw_mlx.runner import Options, Runner

TEXT = "the disk is full"
LONG = {"max_tokens": 200, "temperature": 2.0, "seed": 5}  # some tenths of a second


@pytest.fixture(scope="module")
def running(place: Place) -> Iterator[Place]:
    with place.daemon():
        yield place


@pytest.fixture(autouse=True)
def inside(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAW_MLX_HOME", place.environment["PAW_MLX_HOME"])


@contextmanager
def connected(place: Place) -> Iterator[Function]:
    """A function on the daemon, during the block."""
    fn = paw.connect().function("one", interpreter=str(place.base))
    try:
        yield fn
    finally:
        fn.runner.close()


@contextmanager
def stopped(place: Place) -> Iterator[None]:
    """Have the daemon's process stand still during the block."""
    pid = int(place.status()["pid"])
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
def test_more_calls_than_the_daemon_takes_at_once_all_come_back(running: Place) -> None:
    """Requests fill one direction while answers fill the other: neither waits for the other."""
    texts = [f"{'disk ' * 40}{number % 50}" for number in range(7000)]
    with connected(running) as fn:
        futures = [fn.submit(text, max_tokens=1) for text in texts]
        done = wait(futures, timeout=100)
        assert not done.not_done
        answers = [future.result().text for future in futures]
    assert answers[:50] * 140 == answers


def test_who_waits_for_a_cancelled_call_hears_of_it(running: Place) -> None:
    with connected(running) as fn:
        futures = [fn.submit(f"{TEXT} {number}", **LONG) for number in range(20)]
        assert all(future.cancel() for future in futures)
        assert not wait(futures, timeout=10).not_done
        assert fn(TEXT, max_tokens=4)


def test_a_forked_child_is_told_and_its_parent_is_not_disturbed(running: Place) -> None:
    code = f"""
import os, sys
import paw_mlx as paw
fn = paw.connect().function("one", interpreter={str(running.base)!r})
first = fn({TEXT!r}, max_tokens=6)
future = fn.submit("server", max_tokens=200, temperature=2.0, seed=1)
if (pid := os.fork()) == 0:
    try:
        fn("another text", max_tokens=6)
    except paw.ClosedError as error:
        print(error)
    fn.runner.close()
    del fn, future
    sys.exit()
assert os.waitpid(pid, 0)[1] == 0
assert fn({TEXT!r}, max_tokens=6) == first
assert future.result().text == fn.run("server", max_tokens=200, temperature=2.0, seed=1).text
print("undisturbed")
"""
    words = [SCRIPT[0], "-W", "ignore::DeprecationWarning", "-c", code]
    done = subprocess.run(words, env=running.environment, capture_output=True, timeout=60)
    told, undisturbed = done.stdout.decode().splitlines()
    assert (told, undisturbed) == (
        "this process was forked from one that is connected to the daemon",
        "undisturbed",
    ), done.stderr


def test_a_callback_may_submit_and_may_not_wait(running: Place) -> None:
    said: list[object] = []
    ended = threading.Event()
    with connected(running) as fn:

        def call(_: object) -> None:
            for ask in (fn, fn.stream):
                try:
                    ask(TEXT, max_tokens=2)
                except paw.OptionError as error:
                    said.append(str(error))
            fn.submit(TEXT, max_tokens=2).add_done_callback(lambda _: ended.set())

        fn.submit(TEXT, max_tokens=2).add_done_callback(call)
        assert ended.wait(20)
    assert [str(one)[:25] for one in said] == ["a call waits for itself: "] * 2


def test_threads_that_cancel_submit_and_close_at_once_all_end(running: Place) -> None:
    def storm(number: int) -> int:
        with connected(running) as fn:
            futures = [fn.submit(f"{number} {each}", **LONG) for each in range(30)]
            closing = threading.Timer(0.01 * number, fn.runner.close)
            closing.start()
            for future in futures[::2]:
                future.cancel()
            ended = wait(futures, timeout=30)
            closing.join()
            assert not ended.not_done
            return len(ended.done)

    with ThreadPoolExecutor(8) as pool:
        assert [*pool.map(storm, range(16))] == [30] * 16
    deadline = time.monotonic() + 20
    while running.status()["num_running"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running.status()["num_running"] == 0


def test_a_closed_connection_leaves_no_thread_and_no_socket(running: Place) -> None:
    def held() -> tuple[int, int]:
        gc.collect()
        threads = [one for one in threading.enumerate() if one.name == "paw-mlx-daemon"]
        sockets = [one for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
        return len(threads), len(sockets)

    before = held()
    for _ in range(10):
        with connected(running) as fn:
            fn(TEXT, max_tokens=1)
        with pytest.raises(paw.ClosedError):
            fn(TEXT)
        dropped = paw.connect().function("one", interpreter=str(running.base))
        pieces = dropped.stream(TEXT, max_tokens=50)
        next(pieces)
        del dropped, pieces, fn
    deadline = time.monotonic() + 10
    while held() != before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert held() == before


def test_a_daemon_that_stands_still_is_passed_by(
    running: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "_HELLO_S", 0.3)
    with stopped(running):
        assert wire.find() is None
    found = wire.find()
    assert found is not None
    found.close()


def test_a_call_has_its_time_where_the_daemon_stands_still(
    running: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paw_mlx.runner._LATE_S", 0.2)
    with connected(running) as fn:
        with stopped(running), pytest.raises(paw.CallTimeout, match=r"no result within 0\.3 s"):
            fn(TEXT, timeout_s=0.3)
        assert fn(TEXT, max_tokens=2)


def test_a_call_is_interrupted_where_the_daemon_stands_still(running: Place) -> None:
    rows = running.folder / "rows.txt"
    rows.write_text("".join(f"disk {number}\n" for number in range(3000)))
    for words in (("run", "one", "-"), ("map", "one", rows)):
        command = [*SCRIPT, *map(str, words), "--interpreter", str(running.base)]
        with subprocess.Popen(
            command,
            env=running.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as calling:
            deadline = time.monotonic() + 20
            while running.status()["num_clients"] < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
            with stopped(running):
                if words[-1] == "-":
                    assert calling.stdin
                    calling.stdin.write(b"disk")
                    calling.stdin.close()
                    calling.stdin = None
                time.sleep(0.3)
                calling.send_signal(signal.SIGINT)
                assert calling.communicate(timeout=20)[1].strip() == b""
        assert calling.returncode == 130


@pytest.mark.slow
def test_what_waits_when_the_daemon_dies_is_run_here_once(apart: Place) -> None:
    texts = [f"disk {number}" for number in range(60)]
    heard: list[str] = []
    with paw.Interpreter.load(str(apart.base)) as interpreter:
        here = interpreter.function(paw.load(apart.folder / "one.paw"))
        expected = [here(text, max_tokens=30) for text in texts]
        with pytest.MonkeyPatch.context() as patch, apart.daemon():
            patch.setenv("PAW_MLX_HOME", apart.environment["PAW_MLX_HOME"])
            found = wire.find()
            assert found is not None
            base = {"interpreter": str(apart.base)}
            fn = open_function(found, "one", None, {}, base, local=lambda _: interpreter)
            assert isinstance(fn.runner, DaemonRunner)
            futures = [fn.submit(text, max_tokens=30) for text in texts]
            for future in futures:
                future.add_done_callback(lambda done: heard.append(done.result().text))
            futures[3].result()
            apart.kill()
            assert [future.result(timeout=60).text for future in futures] == expected
            assert fn(texts[0], max_tokens=30) == expected[0]
            assert fn.runner.cut_tokens(fn.program, texts[0], Options()) == 0
            assert [*fn.map(texts, max_tokens=30)] == expected
            assert "".join(fn.stream(texts[1], max_tokens=30)).strip() == expected[1]
        assert sorted(heard) == sorted(expected)
        fn.runner.close()


@pytest.mark.slow
def test_what_cannot_be_loaded_here_when_the_daemon_dies_fails(apart: Place) -> None:
    def broken(_: paw.Program) -> Runner:
        raise RuntimeError("a bug of ours")

    with pytest.MonkeyPatch.context() as patch, apart.daemon():
        patch.setenv("PAW_MLX_HOME", apart.environment["PAW_MLX_HOME"])
        found = wire.find()
        assert found is not None
        fn = open_function(found, "one", None, {}, {"interpreter": str(apart.base)}, local=broken)
        futures = [fn.submit(f"{TEXT} {number}", **LONG) for number in range(300)]
        apart.kill()
        with pytest.raises(RuntimeError, match="a bug of ours"):
            futures[-1].result(timeout=20)
        assert not wait(futures, timeout=20).not_done
        fn.runner.close()
