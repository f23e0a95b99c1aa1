"""A daemon and its clients, killed at random under load, again and again.

Whatever is killed, nobody hears a wrong answer or two: a command that lives prints what it prints
without a daemon, one that was killed has printed the beginning of that, and a call from Python
brings its answer or DaemonError. What is left is no process, no call and no memory.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

from daemons import Place
from shell import SCRIPT, start

import paw_mlx as paw
from paw_mlx.client import places
from paw_mlx.client.connection import open_function
from paw_mlx.client.wire import find
from paw_mlx.functions import Function

_LIMIT_S = 60.0
_LOAD_S = 0.7  # about as long as the load of a round takes
_TEXTS = [f"{word} {number}" for number in range(12) for word in ("disk", "server", "picnic")]
_ROWS = "".join(f"{text}\n" for text in _TEXTS).encode()
_TOKENS = 24


class _Round:
    """Some commands and calls at once, and what became of them."""

    def __init__(self, place: Place, chance: Random, local: Function) -> None:
        self.place, self.text = place, chance.choice(_TEXTS)
        self.commands = {
            "run": self._start("run", "one", self.text),
            "piped": self._start("run", "one", "-", stdin=self.text.encode()),
            "map": self._start("map", "one", "-", stdin=_ROWS),
        }
        self.answers: Counter[str] = Counter()
        self.functions, self.futures = list[Function](), dict[Future[Any], str]()
        wishes = {"interpreter": str(place.base)}
        for runner in (None, local.runner):
            if wire := find():
                here = (lambda _, found=runner: found) if runner else None
                try:
                    fn = open_function(wire, "one", None, {}, wishes, local=here)
                except paw.DaemonError:  # killed already, for the round before
                    continue
                self.functions.append(fn)
                for text in _TEXTS:
                    future = fn.submit(text, max_tokens=_TOKENS)
                    self.futures[future] = text
                    name = f"{len(self.functions)} {text}"
                    future.add_done_callback(lambda _, name=name: self.answers.update([name]))

    def _start(self, *words: str, stdin: bytes = b"") -> subprocess.Popen[bytes]:
        options = {"env": self.place.environment, "stderr": subprocess.PIPE}
        process = start(*words, *_words(self.place), **options)
        assert process.stdin
        process.stdin.write(stdin)
        process.stdin.close()
        process.stdin = None
        return process

    def end(self, expected: dict[str, str], rows: bytes, killed: set[str]) -> None:
        """Wait for all, and hold it against what is right."""
        for name, process in self.commands.items():
            stdout, stderr = process.communicate(timeout=_LIMIT_S)
            right = rows if name == "map" else f"{expected[self.text]}\n".encode()
            if process.returncode == -signal.SIGKILL and name in killed:
                assert right.startswith(stdout), (name, stdout)
            else:
                assert (process.returncode, stdout) == (0, right), (name, stderr)
        for future, text in self.futures.items():
            error = future.exception(timeout=_LIMIT_S)
            if error is None:
                assert future.result().text == expected[text]
            else:
                assert isinstance(error, paw.DaemonError), repr(error)
                assert "daemon" in killed
        assert set(self.answers.values()) <= {1}
        assert len(self.answers) == len(self.futures)
        for fn in self.functions:
            fn.runner._link.close()


def check_killed_daemon(place: Place, times: int, seed: int) -> None:
    """Assert that nothing is wrong after so many kills of a daemon and of its clients."""
    chance, num_killed, started = Random(seed), 0, list[subprocess.Popen[bytes]]()
    with paw.Interpreter.load(str(place.base)) as interpreter:
        local = interpreter.function(paw.load(place.folder / "one.paw"))
        expected = {text: local(text, max_tokens=_TOKENS) for text in _TEXTS}
        assert len({*expected.values()}) > len(_TEXTS) // 2
        rows = place.paw("map", "one", "-", *_words(place), "--local", stdin=_ROWS).stdout
        try:
            while num_killed < times:
                if not started or started[-1].poll() is not None:
                    started.append(_start(place))
                now = _Round(place, chance, local)
                names = ["daemon", *now.commands]
                killed = set(chance.sample(names, chance.randint(1, 3)))
                for name in chance.sample(sorted(killed), len(killed)):
                    time.sleep(chance.random() * _LOAD_S / len(killed))
                    (started[-1] if name == "daemon" else now.commands[name]).kill()
                    num_killed += 1
                now.end(expected, rows, killed)
                if "daemon" in killed:
                    assert started[-1].wait(_LIMIT_S) == -signal.SIGKILL
                else:
                    _check_quiet(started[-1])
            _check_memory(place, started)
        finally:
            for process in started:
                process.kill()
                process.communicate()
    left = {path.name for path in places.folder().iterdir()}
    assert left <= {"daemon.lock", "daemon.log", "daemon.log.1"}, left
    assert _processes(place) == []


def _words(place: Place) -> list[str]:
    return ["--interpreter", str(place.base), "--max-tokens", str(_TOKENS)]


def _start(place: Place) -> subprocess.Popen[bytes]:
    """Start a daemon, as a child, and wait until it answers."""
    words = [*SCRIPT, "daemon", "run", "--idle", "1"]
    process = subprocess.Popen(words, env=place.environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + _LIMIT_S
    while (wire := find()) is None:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    wire.close()
    return process


def _status() -> dict[str, Any]:
    wire = find()
    assert wire is not None
    with closing(wire):
        wire.send({"op": "status", "id": 1})
        return dict(wire.receive()["status"])


def _check_quiet(process: subprocess.Popen[bytes]) -> None:
    """Assert that a daemon forgets clients that are gone, and their calls."""
    deadline = time.monotonic() + 10
    while (found := _status())["num_running"] or found["num_clients"] > 1:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    assert found["pid"] == process.pid


def _check_memory(place: Place, started: list[subprocess.Popen[bytes]]) -> None:
    """Assert that the next call works, and that a daemon then gives its memory back and ends."""
    if started[-1].poll() is not None:
        started.append(_start(place))
    before = _status()["num_calls"]
    assert place.call("run", "one", _TEXTS[0]).returncode == 0
    assert _status()["num_calls"] == before + 1
    deadline = time.monotonic() + 20
    while _status()["active_bytes"] > 10_000:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    started[-1].terminate()
    assert started[-1].wait(_LIMIT_S) == 0


def _processes(place: Place) -> list[str]:
    """Return the commands of processes that live in a place's home, but for the test's own."""
    home, found = f"PAW_MLX_HOME={place.environment['PAW_MLX_HOME']}\0".encode(), list[str]()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if home in path.read_bytes() + b"\0":
                found.append(path.with_name("cmdline").read_text())
        except OSError:  # gone, or another user's
            continue
    return found
