"""The commands as a shell sees them: real processes, or quicker, `main` in this one."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

from paw_mlx.__main__ import main

SCRIPT = [sys.executable, "-m", "paw_mlx"]
_LIMIT_S = 120


class Done(NamedTuple):
    returncode: int
    stdout: bytes
    stderr: str


Paw = Callable[..., Done]


def start(*words: object, **options: Any) -> subprocess.Popen[bytes]:
    """Start a command that runs by itself, its streams as pipes; killed if it takes too long."""
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE) | options
    process = subprocess.Popen([*SCRIPT, *map(str, words)], **streams)
    limit = threading.Timer(_LIMIT_S, process.kill)
    limit.daemon = True
    limit.start()
    return process


@contextmanager
def ending(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End a process, and hear it out, after the block; it is killed if it takes too long."""
    with process:
        try:
            yield
        finally:
            process.terminate()
            try:
                process.communicate(timeout=30)
            finally:
                process.kill()


def paw(*words: object, stdin: bytes = b"", **options: Any) -> Done:
    """Run a command in a process of its own, to its end."""
    command = [*SCRIPT, *map(str, words)]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=_LIMIT_S, **options)
    return Done(done.returncode, done.stdout, done.stderr.decode())


def inside(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[bytes]) -> Paw:
    """Return `paw` without the process, and without standard input."""

    def run(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["paw-mlx", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        stdout, stderr = capfd.readouterr()
        return Done(int(end.value.code or 0), stdout, stderr.decode())

    return run
