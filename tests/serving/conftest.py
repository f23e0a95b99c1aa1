"""What tests of the daemon and of HTTP share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from daemons import Place
from http_servers import Served, http_server, store_functions, write_base


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("daemon"))


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Another home, for tests whose daemon does not outlive them."""
    return Place(tmp_path_factory.mktemp("apart"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def server(base: Path) -> Iterator[Served]:
    store_functions(base)
    with http_server() as served:
        yield served
