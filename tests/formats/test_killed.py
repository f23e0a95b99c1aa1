"""A save killed at any moment leaves the old files or the new ones, never half of either."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import layouts
import pytest

from paw_mlx import formats
from paw_mlx.adapter import Adapter
from paw_mlx.profiles import Profile
from paw_mlx.program import Program

LAYOUTS = (*layouts.PROGRAMS, *layouts.ADAPTERS)
COMMON = """
import os, signal, sys
import layouts
from paw_mlx import formats

layout, target, *sources = sys.argv[1:]
profile = layouts.base("llama")
programs = [formats.load(source) for source in sources]

def save(program, path):
    layouts.save(program, path, layout, profile, "f32")
"""
# Every child dies before one more operation on files than the last, until one survives.
AT_EVERY_STEP = """
def content(path):
    files = [os.path.join(path, n) for n in os.listdir(path)] if os.path.isdir(path) else [path]
    return {os.path.basename(f) if f != path else "": open(f, "rb").read() for f in files}

def dying(step):
    left = step
    def hook(event, args):
        nonlocal left
        if event != "os.kill" and event.startswith(("open", "os.", "shutil.", "tempfile.")):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

for name, program in zip(("old", "new"), programs):
    save(program, f"{target}.{name}")
known = {name: content(f"{target}.{name}") for name in ("old", "new")}
step, status = 0, 1
while status:
    save(programs[0], target)
    child = os.fork()
    if not child:
        dying(step)
        save(programs[1], target)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    there = content(target) if os.path.exists(target) else None
    print(next((name for name, files in known.items() if files == there), "neither"))
    step += 1
"""
AGAIN_AND_AGAIN = """
save(programs[0], target)
print("ready", flush=True)
while True:
    for program in programs:
        save(program, target)
"""


@pytest.fixture
def sources(
    program: Program, llama: Profile, make: Callable[..., Adapter], tmp_path: Path
) -> list[str]:
    """Two programs that differ, as files."""
    other = replace(program, adapter=make(llama, alpha=24.0), spec="Say it more softly.")
    for name, one in (("one", program), ("other", other)):
        formats.save(one, tmp_path / f"{name}.paw", "f32", profile=llama)
    return [str(tmp_path / "one.paw"), str(tmp_path / "other.paw")]


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_killed_before_any_step_it_leaves_the_old_or_the_new(
    layout: str, sources: list[str], tmp_path: Path
) -> None:
    process = layouts.start(COMMON + AT_EVERY_STEP, layout, tmp_path / "here" / "target", *sources)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    found = out.split()
    assert found == sorted(found, reverse=True)  # old, old, ... new, new
    assert {*found} == {"old", "new"}
    assert found.count("old") >= 4


@pytest.mark.slow
def test_killed_from_outside_at_random_it_can_still_be_read(
    sources: list[str], llama: Profile, tmp_path: Path
) -> None:
    chance, alphas = random.Random(1), {8.0, 24.0}
    for i in range(12):
        layout = LAYOUTS[i % len(LAYOUTS)]
        target = tmp_path / layout / "target"
        process = layouts.start(COMMON + AGAIN_AND_AGAIN, layout, target, *sources)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        assert set(formats.load_adapter(target, llama).alphas) < alphas
