"""This process and a daemon, soaked; each way returns what it did and what was wrong."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from random import Random

from daemons import running_daemon
from leftovers import grown
from soaking import Soak, functions, opener, write_base

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


def _faults(soak: Soak, base: Path) -> list[str]:
    found = soak.faults + soak.differing(base)
    for before, after in soak.held:
        if grown(before, after):
            found.append(f"a process had {before} descriptors and threads, and has {after}")
    return found
