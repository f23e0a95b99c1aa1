"""Calls of all kinds, mixed and by the thousand, and what they leave behind.

What is given for a program, an input and options is kept by that key, so that a fresh process can
be asked the same, one call at a time. Memory is sampled while nothing is under way: what is left
then is kept for good. The keys are few and repeat, so that nothing here grows with the calls.
"""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Protocol

import numpy as np
import tiny
from leftovers import Held, held, rss, settled

import paw_mlx as paw
from paw_mlx import formats
from paw_mlx.functions import Function
from paw_mlx.runner import Result

LIMIT_S = 60.0
TOGETHER = 64  # calls under way
SAMPLES = 50  # of memory, at most
WARM = 0.3  # of a soak, not measured: caches fill, and allocators take their arenas
CROWD = 200
AN_OPENING = 100  # calls that an interpreter is opened instead of
CLOSE = 2e-4  # probabilities: their last bits vary with the shape of a batch
LENGTHS = (1, 4, 12)
TEXTS = [f"{word} {'is full ' * 2 * i}{i}" for i in range(5) for word in ("disk", "server")]
LABELS = ("disk", "server", "picnic")
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": list(LABELS)}, "urgent": {"type": "boolean"}},
    "required": ["kind", "urgent"],
    "additionalProperties": False,
}
PROGRAMS: dict[str, tuple[int, dict[str, Any]]] = {  # the adapter's seed, and the output's type
    "text 1": (1, {}),
    "text 2": (2, {}),
    "text 3": (3, {}),
    "labels": (1, {"labels": LABELS}),
    "threshold": (2, {"labels": LABELS, "threshold": 0.6, "otherwise": "unsure"}),
    "regex": (3, {"regex": "[a-d]{2,6}"}),
    "schema": (4, {"schema": SCHEMA}),
}
ACTS = {"run": 80, "cancel": 8, "close": 5, "time out": 4, "too long": 2, "no text": 1}
CUT = "OutputError"
Key = tuple[str, str, int]
Open = Callable[..., Function]


class Called(Protocol):
    """What a soak calls: a `Function`, or what is like one."""

    def submit(self, text: str, **options: Any) -> Future[Result]: ...
    async def arun(self, text: str, **options: Any) -> Any: ...
    def stream(self, text: str, **options: Any) -> Any: ...


def write_base(folder: Path) -> Path:
    """Write a base and every adapter for it, once; return the base's folder."""
    base = folder / "base"
    if not base.exists():
        tiny.write_base(base, "llama")
        for seed in {seed for seed, _ in PROGRAMS.values()}:
            program = tiny.program("llama", seed)
            paw.save(program, folder / f"{seed}.paw", dtype="f32", profile=tiny.profile("llama"))
    return base


def functions(open_function: Open, base: Path) -> dict[str, Function]:
    """Open every program."""
    return {
        name: open_function(base.parent / f"{seed}.paw", **output)
        for name, (seed, output) in PROGRAMS.items()
    }


def answer(result: Result) -> tuple[str, float]:
    """What a call brought, as it has to be again; and a probability, which may differ a little."""
    said: list[Any] = [result.text, result.finish_reason, result.output_tokens]
    if result.decision is None:
        return json.dumps(said), 0.0
    chosen = result.decision
    said += [chosen.label, chosen.abstained]
    return json.dumps(said), chosen.probability


@dataclass
class Soak:
    """Calls of some functions, what they brought, and the memory of the process that computes."""

    functions: Mapping[str, Called]
    pid: int
    answers: dict[Key, set[str]] = field(default_factory=lambda: defaultdict(set))
    shares: dict[Key, tuple[float, float]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    samples: list[tuple[int, int]] = field(default_factory=list)  # calls, bytes
    seconds: float = 0.0
    held: list[tuple[Held, Held]] = field(default_factory=list)  # of each process, before and after
    lock: threading.Lock = field(default_factory=threading.Lock)

    def all(self, num_calls: int, chance: Random, pids: Sequence[int]) -> None:
        """Make so many calls between two crowds: the first has begun every thread of a pool."""
        self.crowd(chance)
        time.sleep(1.0)  # for what ends by itself
        before = {pid: held(pid) for pid in pids}
        self.run(num_calls, chance)
        self.crowd(chance)
        self.held = [(then, settled(pid, then)) for pid, then in before.items()]

    def run(self, num_calls: int, chance: Random) -> None:
        """Make so many calls, and sample memory between them."""
        begun, done = time.monotonic(), 0
        parts = max(10, min(SAMPLES, num_calls // TOGETHER))
        for part in range(1, parts + 1):
            self._calls(num_calls * part // parts - done, chance)
            done = num_calls * part // parts
            gc.collect()
            self.samples.append((done, rss(self.pid)))
        self.seconds = time.monotonic() - begun

    def _calls(self, number: int, chance: Random) -> None:
        running: set[Future[Result]] = set()
        for _ in range(number):
            (act,) = chance.choices([*ACTS], [*ACTS.values()])
            key = choose(chance)
            if future := self._begin(act, key, chance):
                running.add(future)
            if len(running) >= TOGETHER:
                running = wait(running, LIMIT_S, "FIRST_COMPLETED").not_done
        left = wait(running, LIMIT_S).not_done
        self.faults += [f"{len(left)} calls never ended"] if left else []

    def _begin(self, act: str, key: Key, chance: Random) -> Future[Result] | None:
        name, text, length = key
        fn = self.functions[name]
        if act == "close":
            with suppress(paw.OutputError), closing(fn.stream(text, max_tokens=length)) as pieces:
                for _ in zip(range(chance.randint(0, 2)), pieces, strict=False):
                    pass
            self.counts[act] += 1
            return None
        said: Any = {"too long": "disk " * 400, "no text": 7}.get(act, text)
        limit = {"timeout_s": chance.choice([1e-6, 1e-3, 0.01])} if act == "time out" else {}
        future = fn.submit(said, max_tokens=length, **limit)
        future.add_done_callback(lambda one: self.take(act, key, one))
        if act == "cancel":
            time.sleep(chance.choice([0, 0, 0.002]))
            future.cancel()
        return future

    def take(self, act: str, key: Key, future: Future[Result]) -> None:
        """Keep what a call brought, or that it brought what it must not."""
        expected: Any = {
            "cancel": CancelledError,
            "time out": paw.CallTimeout,
            "too long": paw.InputTooLong,
            "no text": paw.OptionError,
        }.get(act, ())
        error = CancelledError() if future.cancelled() else future.exception()
        with self.lock:
            self.counts[act] += 1
            if isinstance(error, paw.OutputError):  # cut before its type's end: always, or never
                self.answers[key].add(CUT)
            elif error is not None:
                self.counts[f"{act}: {type(error).__name__}"] += 1
                if not isinstance(error, expected):
                    self.faults.append(f"{act} {key}: {error!r:.200}")
            elif act in ("too long", "no text"):
                self.faults.append(f"{act} {key}: no error")
            else:
                said, share = answer(future.result())
                self.answers[key].add(said)
                low, high = self.shares.get(key, (share, share))
                self.shares[key] = min(low, share), max(high, share)

    def crowd(self, chance: Random) -> None:
        """Call from many threads and as many tasks at once."""
        start = threading.Barrier(CROWD + 1)

        def call(key: Key) -> None:
            name, text, length = key
            start.wait(LIMIT_S)
            future = self.functions[name].submit(text, max_tokens=length)
            wait([future], LIMIT_S)
            self.take("run", key, future)

        async def tasks(keys: Sequence[Key]) -> list[Result | BaseException]:
            start.wait(LIMIT_S)
            calls = [self.functions[n].arun(text, max_tokens=length) for n, text, length in keys]
            ended = asyncio.gather(*calls, return_exceptions=True)
            return await asyncio.wait_for(ended, LIMIT_S)

        threads = [threading.Thread(target=call, args=(choose(chance),)) for _ in range(CROWD)]
        for thread in threads:
            thread.start()
        keys = [choose(chance) for _ in range(CROWD)]
        for key, result in zip(keys, asyncio.run(tasks(keys)), strict=True):
            done: Future[Result] = Future()
            if isinstance(result, BaseException):
                done.set_exception(result)
            else:
                done.set_result(result)
            self.take("run", key, done)
        for thread in threads:
            thread.join(LIMIT_S)
        self.faults += ["a thread of the crowd never ended"] * any(t.is_alive() for t in threads)

    def slope(self) -> tuple[float, float]:
        """Bytes that memory grew by with each call, after the warm-up, and the standard error.

        By least squares.
        """
        calls, sizes = zip(*self.samples[int(len(self.samples) * WARM) :], strict=True)
        (slope, _), covariance = np.polyfit(calls, sizes, 1, cov=True)
        return float(slope), float(covariance[0, 0] ** 0.5)

    def differing(self, folder: Path) -> list[str]:
        """Where an answer is not that of a fresh process, which makes each call by itself."""
        keys = sorted(self.answers)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            fresh = pool.submit(recompute, folder, keys).result()
        found = []
        for key, (said, share) in zip(keys, fresh, strict=True):
            if self.answers[key] != {said}:
                found.append(f"{key}: {self.answers[key]}, and fresh {said}")
            elif max(abs(share - kept) for kept in self.shares.get(key, (share,))) > CLOSE:
                found.append(f"{key}: probabilities {self.shares[key]}, and fresh {share}")
        return found

    def told(self) -> str:
        """What was measured, in a line."""
        num_calls, last = self.samples[-1]
        first = self.samples[int(len(self.samples) * WARM)][1]
        slope, error = self.slope()
        return (
            f"{num_calls} calls, {self.seconds:.1f} s, {first / 1e6:.1f} -> {last / 1e6:.1f} MB, "
            f"slope {slope:.1f} ± {error:.1f} bytes a call\n"
            f"        {len(self.answers)} answers compared; descriptors and threads {self.held}\n"
            f"        {dict(sorted(self.counts.items()))}"
        )

    def plot(self) -> str:
        """Memory over the calls, from the least to the most of it."""
        sizes = [size for _, size in self.samples]
        low, span = min(sizes), max(max(sizes) - min(sizes), 1)
        line = "".join("▁▂▃▄▅▆▇█"[(size - low) * 7 // span] for size in sizes)
        return f"{line} {low / 1e6:.1f} to {max(sizes) / 1e6:.1f} MB"


class Openings(Soak):
    """Interpreters of a base, each opened, called once and closed in a thread of its own."""

    def __init__(self, base: Path, pid: int) -> None:
        super().__init__({}, pid)
        self._base = base

    def open(self, chance: Random) -> None:
        """Open one, call it and close it."""
        with ThreadPoolExecutor(1) as pool:
            pool.submit(self._open, chance).result(LIMIT_S)

    def _calls(self, number: int, chance: Random) -> None:
        for _ in range(-(-number // AN_OPENING)):
            self.open(chance)

    def _open(self, chance: Random) -> None:
        name, text, length = key = choose(chance)
        with paw.Interpreter.load(str(self._base)) as interpreter:
            fn = functions(opener(interpreter), self._base)[name]
            future = fn.submit(text, max_tokens=length)
            wait([future], LIMIT_S)
        self.take("open", key, future)


def choose(chance: Random) -> Key:
    """Choose a program, an input and a length."""
    return chance.choice([*PROGRAMS]), chance.choice(TEXTS), chance.choice(LENGTHS)


def opener(interpreter: paw.Interpreter) -> Open:
    """Open programs of files in an interpreter."""
    return lambda path, **output: interpreter.function(formats.load(path), **output)


def recompute(folder: Path, keys: Sequence[Key]) -> list[tuple[str, float]]:
    """Answer keys one by one."""
    with paw.Interpreter.load(str(folder)) as interpreter:
        found = functions(opener(interpreter), folder)
        return [_alone(found[n], text, length) for n, text, length in keys]


def _alone(fn: Function, text: str, length: int) -> tuple[str, float]:
    try:
        return answer(fn.run(text, max_tokens=length))
    except paw.OutputError:
        return CUT, 0.0
