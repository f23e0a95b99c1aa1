"""What a process holds, as Linux has it: memory, descriptors and threads."""

from __future__ import annotations

import gc
import time
from pathlib import Path

from paw_mlx.machine.memory import from_status

POOLED = 64  # threads that a pool may begin after the first crowd: it keeps them
Held = tuple[int, int]  # descriptors and threads


def rss(pid: int) -> int:
    """Return how many bytes of a process are in memory."""
    resident, _ = from_status(Path(f"/proc/{pid}/status").read_text())
    assert resident
    return resident


def held(pid: int) -> Held:
    """Return how many descriptors and threads a process has."""
    descriptors, threads = (
        sum(1 for _ in Path(f"/proc/{pid}/{kind}").iterdir()) for kind in ("fd", "task")
    )
    return descriptors, threads


def settled(pid: int, before: Held) -> Held:
    """Return how many it has when it has had time to give them back."""
    deadline = time.monotonic() + 10
    while grown(before, now := held(pid)) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.05)
    return now


def grown(before: Held, after: Held) -> bool:
    """Return whether descriptors or threads were left."""
    return after[0] > before[0] or after[1] > before[1] + POOLED
