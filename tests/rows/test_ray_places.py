"""Which worker goes to which node of a cluster; Ray itself is in `tests/parity`."""

from __future__ import annotations

from typing import Any

import pytest

from paw_mlx import DaemonError, OptionError
from paw_mlx.rows.ray.places import plan


def node(name: str, cpus: float, gpus: float = 0, alive: bool = True) -> dict[str, Any]:
    """A node as `ray.nodes()` has it, which leaves out what there is none of."""
    resources = {"CPU": float(cpus), "GPU": float(gpus), "memory": 1e9}
    kept = {kind: number for kind, number in resources.items() if number}
    return {"NodeID": name, "Alive": alive, "Resources": kept}


def planned(nodes: list[dict[str, Any]], num_workers: int | None) -> list[tuple[Any, ...]]:
    places = plan(nodes, num_workers)
    return [(place.node, place.num_cpus, place.num_gpus, place.share) for place in places]


def test_a_node_has_a_worker_for_each_gpu_or_one() -> None:
    nodes = [node("mac", 10), node("linux", 16, 2)]
    assert planned(nodes, None) == [("mac", 10, 0, 1), ("linux", 8, 1, 2), ("linux", 8, 1, 2)]


def test_a_head_without_cpus_and_a_dead_node_have_none() -> None:
    nodes = [node("head", 0), node("dead", 8, alive=False), node("alive", 4)]
    assert planned(nodes, None) == [("alive", 4, 0, 1)]
    with pytest.raises(DaemonError, match="no node with a CPU"):
        plan(nodes[:2], None)


@pytest.mark.parametrize(
    ("num_workers", "counts"), [(1, [0, 1]), (3, [1, 2]), (6, [2, 4])], ids=["1", "3", "6"]
)
def test_workers_are_spread_over_what_can_do_most(num_workers: int, counts: list[int]) -> None:
    names = [place.node for place in plan([node("a", 4, 1), node("b", 8, 2)], num_workers)]
    assert [names.count("a"), names.count("b")] == counts


def test_more_workers_than_cpus_and_gpus_share_them() -> None:
    assert planned([node("a", 2, 1)], 3) == [("a", 0.666, 0.333, 3)] * 3
    assert planned([node("a", 7)], 2) == [("a", 3, 0, 2)] * 2


def test_less_than_one_worker_is_refused() -> None:
    with pytest.raises(OptionError, match="at least 1, not 0"):
        plan([node("a", 1)], 0)
