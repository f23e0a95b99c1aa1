"""One process that reads inputs of one target, by the thousand, and tells its driver how it goes.

    python -m tests.fuzz.worker TARGET --first N --runs N --seconds S --seed K
                                       --sandbox DIR --out DIR [--coverage]

Inputs come from the seeds and chance alone, the same for the same numbers; or, with Atheris
installed, they are kept and changed again where they reach code that none before did.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import mmap
import os
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from . import finds
from .guard import HANG_S, MEMORY_BYTES, Guard, Hang, peak_bytes

CURRENT = "current"  # the file that holds the input being read
_TELL_S = 1.0


class Work:
    """The inputs of a process: counted, watched, and told to the driver."""

    def __init__(self, asked: argparse.Namespace) -> None:
        from .targets import make  # instrumented, where it is to be

        self.asked, self.target = asked, make(asked.target, asked.sandbox)
        self._guard = Guard(asked.sandbox, asked.hang)
        self._end = time.monotonic() + asked.seconds
        self._told = time.monotonic()
        self._num_all = self._num = 0
        self._outcomes: Counter[str] = Counter()
        self._slowest_s = 0.0
        with (asked.sandbox / CURRENT).open("w+b") as file:
            file.truncate(1 << 20)
            self._current = mmap.mmap(file.fileno(), 0)
        for seed in self.target.seeds:  # what is imported late is imported now
            self.target.run(seed)
        self._guard.limit_memory()

    @property
    def is_done(self) -> bool:
        """Whether all that was asked for is read."""
        return self._num_all >= self.asked.runs or time.monotonic() > self._end

    def try_out(self, data: bytes) -> None:
        """Read one input and print how that ended; what none may end in is raised."""
        print(self._attempt(data))

    def read(self, data: bytes) -> None:
        """Read one input; what none may end in is a find."""
        self._current[: 8 + len(data)] = len(data).to_bytes(8, "little") + data
        begin = time.perf_counter()
        try:
            outcome = self._attempt(data)
            self._slowest_s = max(self._slowest_s, time.perf_counter() - begin)
        except BaseException as error:
            outcome = self._keep(data, error)
        self._outcomes[outcome] += 1
        self._num += 1
        self._num_all += 1
        if time.monotonic() - self._told > _TELL_S or self.is_done:
            self.tell()

    def _attempt(self, data: bytes) -> str:
        with self._guard.watching():
            outcome = self.target.run(data)
        if peak_bytes() - self._guard.base_bytes > MEMORY_BYTES:
            self._guard.base_bytes = peak_bytes()
            raise MemoryError(f"more than {MEMORY_BYTES} bytes")
        return outcome

    def _keep(self, data: bytes, error: BaseException) -> str:
        if isinstance(error, KeyboardInterrupt):
            raise error
        name = finds.signature(error)
        trace = "".join(traceback.format_exception(error))
        place = finds.save(self.asked.out, self.asked.target, name, data, trace)
        if place and not isinstance(error, Hang):
            place.write_bytes(finds.shrink(data, lambda some: self._fails(some, name)))
        return f"FIND {name}"

    def _fails(self, data: bytes, name: str) -> bool:
        try:
            self._attempt(data)
        except BaseException as error:
            return finds.signature(error) == name
        return False

    def tell(self) -> None:
        """Say what was read since the last time."""
        now = time.monotonic()
        told = {
            "runs": self._num,
            "seconds": now - self._told,
            "outcomes": dict(self._outcomes),
            "slowest_s": self._slowest_s,
            "peak_bytes": peak_bytes() - self._guard.base_bytes,
        }
        print(json.dumps(told), flush=True)
        self._num, self._told = 0, now
        self._outcomes.clear()


def _by_chance(asked: argparse.Namespace) -> None:
    work = Work(asked)
    number = asked.first
    while not work.is_done:
        work.read(work.target.make(number, asked.seed))
        number += 1


def _by_coverage(asked: argparse.Namespace, atheris: Any) -> None:
    with atheris.instrument_imports(include=["paw_mlx"]):
        work = Work(asked)
    from .target import MAX_BYTES

    kept, seeds = asked.out / "corpus" / asked.target, asked.sandbox / "seeds"
    kept.mkdir(parents=True, exist_ok=True)
    seeds.mkdir(exist_ok=True)
    for number, seed in enumerate(work.target.seeds):
        (seeds / str(number)).write_bytes(seed)

    def read(data: bytes) -> None:
        work.read(data)
        if work.is_done:
            _leave()

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        try:
            return change(data, most, Random(seed))
        except BaseException:  # libFuzzer would go on, or hang
            traceback.print_exc()
            os._exit(3)

    def change(data: bytes, most: int, chance: Random) -> bytes:
        if chance.random() < 0.1:
            return atheris.Mutate(data, most)
        if chance.random() < 0.3:  # what is kept drifts away from what is sound
            data = chance.choice(work.target.seeds)
        return work.target.change(data, chance)[:most]

    handled = [f"-handle_{name}=0" for name in ("segv", "abrt", "int", "term", "bus", "fpe", "ill")]
    longest = max(map(len, work.target.seeds))
    options = [
        f"-max_len={min(2 * longest + 2048, MAX_BYTES)}",
        "-timeout=0",
        "-rss_limit_mb=0",
        "-detect_leaks=0",
        "-report_slow_units=1000000",  # shrinking a find takes a while
        f"-artifact_prefix={asked.sandbox}/",
        *handled,
    ]
    options += ["-print_final_stats=0", "-verbosity=0", f"-seed={asked.seed + asked.first + 1}"]
    atheris.Setup(["fuzz", *options, str(kept), str(seeds)], read, custom_mutator=mutate)
    atheris.Fuzz()


def _leave() -> None:
    sys.stdout.flush()
    os._exit(0)


def main() -> None:
    """Read as many inputs as are asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    for name, kind in (("first", int), ("runs", int), ("seconds", float), ("seed", int)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    for name in ("sandbox", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--hang", type=float, default=HANG_S, help="seconds that an input may take")
    parser.add_argument("--coverage", action="store_true")
    parser.add_argument("--file", type=Path, help="read this input alone")
    asked = parser.parse_args()
    faulthandler.enable()
    if asked.file:
        Work(asked).try_out(asked.file.read_bytes())
    elif asked.coverage:
        import atheris

        _by_coverage(asked, atheris)
    else:
        _by_chance(asked)
    _leave()  # threads of a target may wait for ever


if __name__ == "__main__":
    main()
