"""What dies on a Ray cluster, a worker, a node or all, costs no row: each on a fresh cluster."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import ray_clusters
import tiny
from limits import limited
from ray_clusters import kill, texts, until, workers

import paw_mlx as paw
from paw_mlx import formats
from paw_mlx.rows.ray import open_function

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    """What would wait for good fails."""
    with limited(180):
        yield


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return ray_clusters.write_home(tmp_path)


@pytest.fixture
def here(home: Path) -> Iterator[paw.Interpreter]:
    with paw.Interpreter.load(str(home / "base")) as interpreter:
        yield interpreter


@pytest.fixture
def cluster(home: Path) -> Iterator[Any]:
    with ray_clusters.two_nodes(home) as cluster:
        yield cluster


def test_a_node_is_lost_and_another_takes_its_place(
    cluster: Any, here: paw.Interpreter, home: Path
) -> None:
    third = cluster.add_node(**ray_clusters.node())
    fn = open_function(home / "a.paw", interpreter=str(home / "base"))
    with closing(fn.runner):
        assert len(workers()) == 3
        rows, found = texts(4000), []
        for output in fn.map(rows, max_tokens=2):
            if len(found) == 1000:
                cluster.remove_node(third, allow_graceful=False)
            found.append(output)
        assert found == list(here.function(formats.load(home / "a.paw")).map(rows, max_tokens=2))
        assert len(workers()) == 2
        cluster.add_node(**ray_clusters.node())
        # Ray notices after a while that a node is gone, and we where a worker of it is asked.
        assert until(lambda: bool([*fn.map(texts(64), max_tokens=1)]) and len(workers()) == 3, 90)


def test_a_successor_with_another_base_is_not_taken(cluster: Any, home: Path) -> None:
    changing = tiny.write_base(home / "changing", "qwen3")
    fn = open_function(home / "a.paw", interpreter=str(changing), num_workers=1)
    with closing(fn.runner):
        assert fn("the disk", max_tokens=2)
        tiny.write_base(changing, "qwen3", seed=1)
        kill(workers()[0])
        with pytest.raises(paw.ClosedError, match=r"bases of different weights: [0-9a-f]{12} on"):
            fn("the disk", max_tokens=2)


def test_workers_that_die_again_and_again_are_given_up(cluster: Any, home: Path) -> None:
    over = threading.Event()

    def kill_all() -> None:
        while not over.wait(0.02):
            for worker in workers():
                kill(worker)

    fn = open_function(home / "a.paw", interpreter=str(home / "base"))
    with closing(fn.runner):
        murderer = threading.Thread(target=kill_all)
        murderer.start()
        try:
            with pytest.raises(
                paw.ClosedError, match=r"is left: (3 workers in a row died|Ray began no worker)"
            ):
                list(fn.map(texts(100_000), max_tokens=4))
            with pytest.raises(
                paw.DaemonError, match=r"3 workers in a row died|Ray began no worker"
            ):
                open_function(home / "a.paw", interpreter=str(home / "base"))
        finally:
            over.set()
            murderer.join()


def test_an_input_that_workers_die_of_fails_alone(
    cluster: Any, here: paw.Interpreter, home: Path
) -> None:
    mine = here.function(formats.load(home / "a.paw"))
    slowest = max(texts(20), key=lambda text: mine.run(text, max_tokens=200).output_tokens)
    fn = open_function(home / "a.paw", interpreter=str(home / "base"), num_workers=1)
    with closing(fn.runner):
        deadly = fn.submit(slowest, max_tokens=200)
        for _ in range(4):
            assert fn.run("the disk", max_tokens=1)  # a worker lives
            kill(workers()[0])
        with pytest.raises(paw.DaemonError, match="4 workers died while they had this input"):
            deadly.result(60)
        assert fn.run("the disk", max_tokens=1)
