"""A teaching that is killed at random moments, again and again, and begun again each time."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from random import Random

from shell import SCRIPT
from teacher_server import SPEC, Teacher, serving_teacher

_LIMIT_S = 120


def check_killed(folder: Path, times: int, seed: int) -> None:
    """Assert that a teaching that is killed so often writes the file of an unbroken one."""
    chance, num_pairs = Random(seed), 200 + 10 * times
    with serving_teacher(Teacher()) as teacher:
        right, out = folder / "unbroken.jsonl", folder / "killed.jsonl"
        start = time.perf_counter()
        assert _begin(teacher, right, num_pairs).wait(_LIMIT_S) == 0
        whole_s = time.perf_counter() - start
        grown, num_killed = [0], 0
        for _ in range(times):
            process = _begin(teacher, out, num_pairs)
            _wait_for_lines(process, out, grown[-1] + chance.randint(0, 7), 2 * whole_s)
            time.sleep(chance.random() * 0.02)
            process.kill()
            if process.wait() == 0:  # it was quicker
                break
            num_killed += 1
            grown.append(_count_lines(out))
        assert num_killed >= times // 2
        assert grown == sorted(grown)  # nothing that was kept is lost
        assert grown[-1] > 0
        assert _begin(teacher, out, num_pairs).wait(_LIMIT_S) == 0
    inputs = [json.loads(line)["input"] for line in out.read_text().splitlines()]
    assert len(inputs) == len(set(inputs)) == num_pairs
    assert out.read_bytes() == right.read_bytes()


def _begin(teacher: Teacher, out: Path, num_pairs: int) -> subprocess.Popen[bytes]:
    command = [*SCRIPT, "pairs", SPEC, "--teacher", teacher.url, "-n", str(num_pairs), "-o", out]
    return subprocess.Popen(
        [*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _wait_for_lines(process: subprocess.Popen[bytes], out: Path, num: int, most_s: float) -> None:
    """Wait until a file has so many lines, or for a while."""
    end = time.perf_counter() + most_s
    while _count_lines(out) < num and process.poll() is None and time.perf_counter() < end:
        time.sleep(0.001)


def _count_lines(out: Path) -> int:
    return out.read_bytes().count(b"\n") if out.exists() else 0
