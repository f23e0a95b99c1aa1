"""Which worker goes to which node of a cluster, and what of the node it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...errors import DaemonError, OptionError


@dataclass(frozen=True)
class Place:
    """A node's part for one worker: `share` workers have the node among them.

    `node` is Ray's id of it; None for any.
    """

    node: str | None
    num_cpus: float
    num_gpus: float
    share: int

    def options(self, ray: Any) -> dict[str, Any]:
        """Return it as Ray's actors take it. Another node does where this one is gone."""
        strategy: Any = "SPREAD"
        if self.node:
            scheduling = ray.util.scheduling_strategies
            strategy = scheduling.NodeAffinitySchedulingStrategy(self.node, soft=True)
        return self.resources | {"scheduling_strategy": strategy}

    @property
    def resources(self) -> dict[str, Any]:
        """What a worker takes of its node, as Ray has it."""
        return {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus}

    def anywhere(self) -> Place:
        """Return the same part of any node."""
        return replace(self, node=None)


def plan(nodes: Sequence[Mapping[str, Any]], num_workers: int | None) -> list[Place]:
    """Spread workers over nodes, as `ray.nodes()` has them, each with its part of the node.

    None is a worker for each GPU, and for each node without one. Nodes that have no CPU for
    anybody, as heads often have not, get none. OptionError for less than one worker.
    """
    if num_workers is not None and num_workers < 1:
        raise OptionError(f"the number of workers must be at least 1, not {num_workers}")
    found = [node for node in nodes if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    if not found:
        raise DaemonError(
            "the cluster has no node with a CPU for a worker", hint="`ray status` says what it has."
        )
    slots = [max(1, int(node["Resources"].get("GPU", 0))) for node in found]
    counts = slots if num_workers is None else _deal(slots, num_workers)
    return [
        _part(node, count) for node, count in zip(found, counts, strict=True) for _ in range(count)
    ]


def _deal(slots: Sequence[int], num_workers: int) -> list[int]:
    """Return how many of the workers each node gets: the next goes where most slots are free."""
    counts = [0] * len(slots)
    for _ in range(num_workers):
        emptiest = min(range(len(slots)), key=lambda at: (counts[at] + 1) / slots[at])
        counts[emptiest] += 1
    return counts


def _part(node: Mapping[str, Any], share: int) -> Place:
    """Return a node's part for one of so many workers: whole CPUs, unless there are too few."""
    cpus, gpus = (float(node["Resources"].get(kind, 0)) / share for kind in ("CPU", "GPU"))
    num_cpus = float(int(cpus)) if cpus >= 1 else int(cpus * 1000) / 1000
    num_gpus = float(int(gpus)) if gpus >= 1 else int(gpus * 1000) / 1000
    return Place(node["NodeID"], num_cpus, min(num_gpus, 1.0), share)
