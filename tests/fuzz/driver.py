"""The driver: workers in their processes, one a target, restarted after crashes; and the counts."""

from __future__ import annotations

import json
import os
import re
import selectors
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import finds

_SLICE_S = 60.0  # of a target, before others get their turn
_SILENT_S = 60.0  # of a worker, which is then killed
_START_S = 120.0  # until it says something first
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Asked:
    """What is to be fuzzed: so many runs of each target, or seconds of all together."""

    targets: tuple[str, ...]
    runs: int
    seconds: float
    seed: int
    jobs: int
    out: Path
    coverage: bool


def fuzz(asked: Asked) -> int:
    """Fuzz in slices, all targets in turn; return 1 if anything was found, else 0."""
    counts, left = Counts(asked.out), dict.fromkeys(asked.targets, asked.runs)
    share = asked.seconds * asked.jobs / len(asked.targets)
    seconds = dict.fromkeys(asked.targets, share)
    while any(seconds.values()):
        turn = [name for name in asked.targets if seconds[name] > 0]

        def work(name: str) -> None:
            slice_s = min(seconds[name], max(_SLICE_S, share / 50))
            begin = time.monotonic()
            done = _run_slice(asked, counts, name, min(left[name], 1 << 40), slice_s)
            left[name] -= done
            seconds[name] -= max(time.monotonic() - begin, slice_s / 2)
            if left[name] <= 0 or seconds[name] < 1:
                seconds[name] = 0

        with ThreadPoolExecutor(asked.jobs) as pool:
            list(pool.map(work, turn))
    print(f"{counts.path}: {counts.summary(asked.targets)}")
    return int(counts.num_found > 0)


def try_out(target: str, file: Path) -> int:
    """Read one input and print how that ended; return 1 for what no input may end in, else 0."""
    with _sandbox() as sandbox:
        options = ["--first", "0", "--runs", "1", "--seconds", "60", "--seed", "0"]
        options += ["--sandbox", str(sandbox), "--out", str(sandbox), "--file", str(file)]
        command = [sys.executable, "-W", "ignore", "-m", "tests.fuzz.worker", target, *options]
        return int(subprocess.run(command, cwd=_ROOT, env=_environment(sandbox)).returncode != 0)


class Counts:
    """What was read so far, by target, in a file; `num_found` counts finds since it was opened."""

    def __init__(self, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.path, self._lock, self.num_found = out / "counts.json", threading.Lock(), 0
        self.kept: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}

    def of(self, target: str) -> dict[str, Any]:
        """Return a target's counts."""
        fresh = {"runs": 0, "seconds": 0.0, "slowest_s": 0.0, "peak_bytes": 0, "outcomes": {}}
        return self.kept.setdefault(target, fresh)

    def add(self, target: str, told: Mapping[str, Any]) -> None:
        """Add what a worker told."""
        with self._lock:
            own = self.of(target)
            own["runs"] += told.get("runs", 0)
            own["seconds"] = round(own["seconds"] + told.get("seconds", 0.0), 3)
            for name in ("slowest_s", "peak_bytes"):
                own[name] = max(own[name], told.get(name, 0))
            for name, num in told["outcomes"].items():
                own["outcomes"][name] = own["outcomes"].get(name, 0) + num
                self.num_found += num if name.startswith("FIND") else 0
            new = self.path.with_name(f"{self.path.name}.new")
            new.write_text(json.dumps(self.kept, indent=1, ensure_ascii=False))
            new.replace(self.path)

    def line(self, target: str) -> str:
        """Say how a target stands."""
        own = self.of(target)
        speed = own["runs"] / own["seconds"] if own["seconds"] else 0.0
        found = [name for name in own["outcomes"] if name.startswith("FIND")]
        return (
            f"{target}: {own['runs']:,} inputs, {speed:,.0f}/s, slowest {own['slowest_s']:.2f} s, "
            f"memory +{own['peak_bytes'] / 1e6:.0f} MB, {len(found)} finds"
        )

    def summary(self, targets: tuple[str, ...]) -> str:
        """Say how all stand together."""
        owns = [self.of(name) for name in targets]
        runs, seconds = sum(o["runs"] for o in owns), sum(o["seconds"] for o in owns)
        return f"{runs:,} inputs of {len(owns)} targets in {seconds / 3600:.2f} hours"


def _run_slice(asked: Asked, counts: Counts, target: str, runs: int, seconds: float) -> int:
    """Let workers read inputs of a target, a new one after each that died; return how many."""
    first = counts.of(target)["runs"]
    end, done = time.monotonic() + seconds, 0
    while done < runs and (left := end - time.monotonic()) > 0.5:
        with _sandbox() as sandbox:
            options = {
                "first": first + done,
                "runs": runs - done,
                "seconds": left,
                "seed": asked.seed,
                "sandbox": sandbox,
                "out": asked.out,
            }
            command = [sys.executable, "-W", "ignore", "-m", "tests.fuzz.worker", target]
            command += [word for k, v in options.items() for word in (f"--{k}", str(v))]
            command += ["--coverage"] if asked.coverage else []
            num, status, log = _watch(command, sandbox, counts, target)
            done += num
            if status:
                _keep_crash(asked, counts, target, sandbox, status, log)
                done += 1
                if not num and "Traceback" in log:  # it never began
                    raise SystemExit(f"{target} cannot be fuzzed:\n{log[-3000:]}")
    print(counts.line(target), flush=True)
    return done


def _watch(command: list[str], sandbox: Path, counts: Counts, target: str) -> tuple[int, int, str]:
    """Run a worker and add up what it tells; return its inputs, its exit status, what it logged."""
    done, last = 0, time.monotonic() + _START_S
    with (sandbox / "log").open("w+b") as log:
        process = subprocess.Popen(
            command, cwd=_ROOT, env=_environment(sandbox), stdout=subprocess.PIPE, stderr=log
        )
        with process, selectors.DefaultSelector() as selector:
            assert process.stdout
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                if selector.select(max(last - time.monotonic(), 0)):
                    line = process.stdout.readline()
                    if not line:
                        break
                    if line.startswith(b"{"):
                        told = json.loads(line)
                        counts.add(target, told)
                        done += told["runs"]
                        last = time.monotonic() + _SILENT_S
                elif time.monotonic() > last:
                    process.kill()
                    break
        log.seek(0)
        return done, process.returncode, log.read().decode(errors="replace")


def _keep_crash(
    asked: Asked, counts: Counts, target: str, sandbox: Path, status: int, log: str
) -> None:
    """Keep the input that ended a worker."""
    held = (sandbox / "current").read_bytes() if (sandbox / "current").exists() else bytes(8)
    data = held[8 : 8 + int.from_bytes(held[:8], "little")]
    frames = re.findall(r'File "[^"]*?([^/"]+)", line (\d+)', log)
    where = ":".join(frames[0]) if frames else "?"
    name = f"exit {status} at {where}" + (" (no end)" if "Timeout" in log else "")
    finds.save(asked.out, target, name, data, log[-20_000:])
    counts.add(target, {"runs": 1, "outcomes": {f"FIND {name}": 1}})


def _environment(sandbox: Path) -> dict[str, str]:
    """Return what a worker finds around it: a home of its own, one thread, no network."""
    own = {
        "PAW_MLX_HOME": str(sandbox / "home"),
        "HF_HOME": str(sandbox / "huggingface"),
        "PAW_OFFLINE": "1",
        "PAW_MLX_DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
        "PYTHONHASHSEED": "0",
    }
    return os.environ | own


@contextmanager
def _sandbox() -> Iterator[Path]:
    """Yield a new folder, in memory where that is possible."""
    memory = Path("/dev/shm")
    where = memory if os.access(memory, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="paw-fuzz-", dir=where))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
