"""Ray clusters on this machine, and the processes that work in it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import tiny

from paw_mlx import formats

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

STORE_BYTES = 100_000_000
WORDS = ["the server", "is down", "disk", "full", "spring", "picnic on Friday", "welcome", "世界"]


def texts(num: int, seed: int = 0) -> list[str]:
    """Inputs that differ, and some that repeat."""
    chance = random.Random(seed)
    made = [" ".join(chance.choices(WORDS, k=chance.randint(1, 5))) for _ in range(num)]
    return [f"{text} {i}" if i % 9 else text for i, text in enumerate(made)]


def write_home(home: Path) -> Path:
    """Write a base, and two programs for it."""
    tiny.write_base(home / "base", "qwen3")
    profile = tiny.profile("qwen3")
    for name, seed in (("a", 0), ("b", 1)):
        formats.save(tiny.program("qwen3", seed), home / f"{name}.paw", None, profile=profile)
    return home


@contextmanager
def two_nodes(home: Path) -> Iterator[Any]:
    """Run a cluster of two nodes with one CPU each, and connect this process to it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAW_MLX_HOME", str(home))  # of the nodes
        cluster = Cluster(initialize_head=True, head_node_args=node())
        try:
            cluster.add_node(**node())
            cluster.wait_for_nodes(60)
            ray.init(address=cluster.address, log_to_driver=False, logging_level="CRITICAL")
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()
    assert until(lambda: not workers(), 20), "workers are left"


@contextmanager
def one_node(home: Path) -> Iterator[None]:
    """Run a cluster of one node with three CPUs, and connect this process to it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAW_MLX_HOME", str(home))
        try:
            alone = node() | {"num_cpus": 3}
            ray.init("local", log_to_driver=False, logging_level="CRITICAL", **alone)
            yield
        finally:
            ray.shutdown()


def node() -> dict[str, Any]:
    """What a node has."""
    return {"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_dashboard": False}


def workers() -> list[int]:
    """Return the processes of the workers in this process's cluster, the oldest first."""
    words = ["ps", "-eo", "pid=,ppid=,args="]
    shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in shown.splitlines()]
    parents = {pid: parent for pid, parent, *_ in rows}
    named = (
        (pid, raylet) for pid, raylet, *name in rows if "".join(name).startswith("ray::Worker")
    )
    return sorted(int(pid) for pid, raylet in named if parents.get(raylet) == str(os.getpid()))


def kill(pid: int) -> None:
    """Kill a process as the system does when memory runs out, if it has not ended by itself."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def until(holds: Callable[[], bool], limit_s: float) -> bool:
    """Wait until something holds, for so long at most; return whether it does."""
    end = time.monotonic() + limit_s
    while not (held := holds()) and time.monotonic() < end:
        time.sleep(0.05)
    return held
