"""This process and a daemon, soaked; each way returns what it did and what was wrong."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random

from leftovers import grown
from shell import SCRIPT
from soaking import LIMIT_S, Soak, functions, opener, write_base

import paw_mlx as paw
from paw_mlx.client.connection import ask_status
from paw_mlx.client.wire import find


def python(folder: Path, num_calls: int, seed: int) -> tuple[Soak, list[str]]:
    """Soak this process; what was wrong."""
    base = write_base(folder)
    with paw.Interpreter.load(str(base)) as interpreter:
        soak = Soak(functions(opener(interpreter), base), os.getpid())
        soak.all(num_calls, Random(seed), [os.getpid()])
    return soak, _faults(soak, base)


def daemon(folder: Path, num_calls: int, seed: int) -> tuple[Soak, list[str]]:
    """Soak a daemon of this environment's home; what was wrong."""
    base = write_base(folder)
    with _daemon() as pid:
        soak = Soak(functions(partial(paw.connect().function, interpreter=str(base)), base), pid)
        soak.all(num_calls, Random(seed), [pid, os.getpid()])
        for fn in soak.functions.values():
            fn.runner.close()
    return soak, _faults(soak, base)


def _faults(soak: Soak, base: Path) -> list[str]:
    found = soak.faults + soak.differing(base)
    for before, after in soak.held:
        if grown(before, after):
            found.append(f"a process had {before} descriptors and threads, and has {after}")
    return found


@contextmanager
def _daemon() -> Iterator[int]:
    """Run a daemon of this environment's home, as a child; its process's id."""
    command = [*SCRIPT, "daemon", "run"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            deadline = time.monotonic() + LIMIT_S
            while (wire := find()) is None:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            ask_status(wire)
            yield process.pid
        finally:
            process.terminate()
            try:
                process.communicate(timeout=30)
            finally:
                process.kill()
