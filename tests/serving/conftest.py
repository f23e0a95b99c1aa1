"""What tests of the daemon share."""

from __future__ import annotations

import pytest
from daemons import Place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("daemon"))


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Another home, for tests whose daemon does not outlive them."""
    return Place(tmp_path_factory.mktemp("apart"))
