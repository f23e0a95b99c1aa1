"""A tuning in the background, and the moment of its promotion, killed at random again and again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import paw_mlx.interpreter  # noqa: F401  loads a BLAS before MLX, in this process too

import small_tunings as small  # isort: skip
import tiny  # isort: skip
from paw_mlx import formats, jobs, store  # isort: skip
from paw_mlx.cases import Case, write_kept  # isort: skip

_LIMIT_S = 600


def check_killed_tuning(folder: Path, times: int, seed: int) -> None:
    """Assert that tunings which are killed so often end as an unbroken one, in the store too."""
    chance, num_killed = Random(seed), 0
    base = small.make_base(folder / "base")
    cases = [Case(text, small.right(text)) for text in chance.sample(small.INPUTS, 120)]
    (folder / "cases.jsonl").write_bytes(write_kept(cases[40:]))
    for name in ("unbroken", "killed"):
        store.add(small.make_program(base, cases[:40], 40), name, profile=base.profile)
    words = ["--cases", str(folder / "cases.jsonl"), "--interpreter", str(base.path)]
    words += ["--steps", "30", "--learning-rate", "3e-3"]
    right = _end(jobs.start(["tune", "unbroken", *words]))
    old, new = _digest("killed"), _digest("unbroken")
    assert (right.state, store.current("unbroken")) == ("done", 2), jobs.tail(right, 20)
    assert old != new
    while num_killed < times:
        job = jobs.start(["tune", "killed", *words])
        while num_killed < times:
            time.sleep(chance.random() * ((right.ended or 0) - right.started) / 3)
            if not _kill(job):
                break
            num_killed += 1
            assert _digest("killed") in (old, new)
            job = jobs.resume(job.id)
        job = _end(job)
        assert (job.state, store.current("killed")) == ("done", 2), jobs.tail(job, 20)
        assert _digest("killed") == new
        store.remove("killed@v2")
        jobs.remove(job.id)


def _kill(job: jobs.Job) -> bool:
    """Kill a job's process; False if it was done before."""
    if jobs.read(job.id).state != "running":
        return False
    os.kill(job.pid or 0, signal.SIGKILL)
    os.waitpid(job.pid or 0, 0)
    return jobs.read(job.id).state == "interrupted"


def check_killed_promotion(folder: Path, times: int, seed: int) -> None:
    """Assert that the store holds the old version or the new one, whenever that is killed."""
    chance, found = Random(seed), list[int]()
    base = small.make_base(folder / "base")
    cases = [Case(text, small.right(text)) for text in small.INPUTS[:20]]
    old, new = (small.make_program(base, cases, steps) for steps in (1, 2))
    store.add(old, "triage", profile=base.profile)
    formats.save(new, folder / "new.paw", profile=base.profile)
    digests = [
        formats.load(store.find("triage")).digest(),
        formats.load(folder / "new.paw").digest(),
    ]
    store_s = 0.02
    for _ in range(times):
        process = subprocess.Popen(
            [sys.executable, __file__, str(folder / "new.paw")], stdout=subprocess.PIPE
        )
        assert process.stdout
        process.stdout.read(1)
        time.sleep(chance.random() * 1.5 * store_s)
        process.kill()
        process.communicate()
        version = store.current("triage")
        assert _digest("triage") == digests[version - 1]
        found.append(version)
        start = time.perf_counter()
        assert _promote(folder / "new.paw") == 2
        store_s = time.perf_counter() - start if version == 1 else store_s
        assert _digest("triage") == digests[1]
        store.remove("triage@v2")
    assert set(found) == {1, 2} or times < 10, found


def _end(job: jobs.Job) -> jobs.Job:
    deadline = time.monotonic() + _LIMIT_S
    while jobs.read(job.id).state == "running" and time.monotonic() < deadline:
        time.sleep(0.1)
    while jobs.read(job.id).state == "done" and job.work.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    return jobs.read(job.id)


def _digest(name: str) -> str:
    return formats.load(store.find(name)).digest()


def _promote(file: Path) -> int:
    return store.add(
        formats.load(file), "triage", dtype=None, profile=tiny.profile("llama"), expected=1
    )


if __name__ == "__main__":
    sys.stdout.write(".")
    sys.stdout.flush()
    _promote(Path(sys.argv[1]))
