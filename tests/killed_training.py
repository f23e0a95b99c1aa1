"""A training that is killed at random moments, again and again, and begun again each time."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import paw_mlx.interpreter  # noqa: F401  loads a BLAS before MLX, in this process too

import toy_compilers as toy  # isort: skip
from paw_mlx.formats.checkpoint import MAPPER  # isort: skip
from paw_mlx.training.compiler import CHECKPOINT  # isort: skip
from paw_mlx.training.recipe import CompilerRecipe  # isort: skip

_LIMIT_S = 120


def check_killed(folder: Path, times: int, seed: int) -> None:
    """Assert that a training which is killed so often ends as an unbroken one."""
    base, out, right = toy.write_base(folder / "base"), folder / "killed", folder / "unbroken"
    toy.make_training(base, right, _recipe(times)).run(lambda step: None)
    assert _kill_and_end(base, out, times, Random(seed)) >= _recipe(times).steps  # some twice
    # What a write was at when it was killed lies under a hidden name, and is swept after a day.
    left = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    assert left == {path.name for path in right.iterdir()}
    assert CHECKPOINT not in left
    assert (out / MAPPER).read_bytes() == (right / MAPPER).read_bytes()
    assert toy.read_log(out) == toy.read_log(right)


def _recipe(times: int) -> CompilerRecipe:
    """What is trained, long enough not to end before it was killed so often."""
    return replace(toy.TOY, steps=20 + 4 * times, check_every=2)


def _kill_and_end(base: Path, out: Path, times: int, chance: Random) -> int:
    """Kill, begin again, and at last let it end; return how many steps were taken in all."""
    steps, begin_s, step_s = 0, 0.3, 0.01
    for _ in range(times):
        process, marks = _begin(base, out, times), [time.perf_counter()]
        assert process.stdout
        for _ in range(chance.randint(0, 2)):
            steps += len(process.stdout.read(1))
            marks.append(time.perf_counter())
        begin_s = marks[1] - marks[0] if marks[1:] else begin_s
        step_s = marks[2] - marks[1] if marks[2:] else step_s
        time.sleep(chance.random() * (step_s if marks[1:] else begin_s))
        assert process.poll() is None, "it ended before it was killed"
        process.kill()
        steps += len(process.communicate()[0])
    ended = _begin(base, out, times)
    steps += len(ended.communicate(timeout=_LIMIT_S)[0])
    assert ended.returncode == 0
    return steps


def _begin(base: Path, out: Path, times: int) -> subprocess.Popen[bytes]:
    """Start a process that trains, and writes a byte for each step."""
    command = [sys.executable, __file__, str(base), str(out), str(times)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def _write_byte(step: object) -> None:
    sys.stdout.buffer.write(b".")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    toy.make_training(Path(sys.argv[1]), Path(sys.argv[2]), _recipe(int(sys.argv[3]))).run(
        _write_byte
    )
