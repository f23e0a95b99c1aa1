"""The ways to soak: this process, a daemon, a server, and interpreters opened anew.

Each returns what it did and what was wrong.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from random import Random

import soak_http
from daemons import running_daemon
from leftovers import grown, held, settled
from soaking import Openings, Soak, functions, opener, write_base

import paw_mlx as paw


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
    with running_daemon(os.environ) as process:
        opening = partial(paw.connect().function, interpreter=str(base))
        soak = Soak(functions(opening, base), process.pid)
        soak.all(num_calls, Random(seed), [process.pid, os.getpid()])
        for fn in soak.functions.values():
            fn.runner.close()
    return soak, _faults(soak, base)


def http(folder: Path, num_calls: int, seed: int) -> tuple[Soak, list[str]]:
    """Soak a server of this environment's home; what was wrong.

    Descriptors are counted on its side alone: on the other, httpx keeps connections that have ended
    until it needs one.
    """
    base = write_base(folder)
    soak_http.store_functions(base)
    with soak_http.server() as (url, process), soak_http.client(url) as asked:
        soak = Soak(asked, process.pid)
        soak.all(num_calls, Random(seed), [process.pid])
    return soak, _faults(soak, base)


def openings(folder: Path, num_calls: int, seed: int) -> tuple[Soak, list[str]]:
    """Open an interpreter anew instead of every hundredth call; what was wrong."""
    base, chance, pid = write_base(folder), Random(seed), os.getpid()
    soak = Openings(base, pid)
    soak.open(chance)
    before = held(pid)
    soak.run(num_calls, chance)
    soak.held = [(before, settled(pid, before))]
    return soak, _faults(soak, base)


def _faults(soak: Soak, base: Path) -> list[str]:
    found = soak.faults + soak.differing(base)
    for before, after in soak.held:
        if grown(before, after):
            found.append(f"a process had {before} descriptors and threads, and has {after}")
    return found
