"""Commands, called in this process."""

from __future__ import annotations

from typing import Any

import pytest
from shell import Paw, inside


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfdbinary: Any) -> Paw:
    return inside(monkeypatch, capfdbinary)
