"""What a process holds, as Linux has it: memory, descriptors and threads."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path

POOLED = 16  # threads that a pool may begin after the first crowd: it keeps them
Held = tuple[int, int]  # descriptors and threads


def rss(pid: int) -> int:
    """Bytes of a process that are in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def held(pid: int) -> Held:
    """How many descriptors and threads a process has."""
    descriptors, threads = (
        sum(1 for _ in Path(f"/proc/{pid}/{kind}").iterdir()) for kind in ("fd", "task")
    )
    return descriptors, threads


def settled(pid: int, before: Held, limit_s: float = 10.0) -> Held:
    """How many it has when it has had time to give them back."""
    deadline = time.monotonic() + limit_s
    while grown(before, now := held(pid)) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.05)
    return now


def grown(before: Held, after: Held) -> bool:
    """Return whether descriptors or threads were left."""
    return after[0] > before[0] or after[1] > before[1] + POOLED
