"""A daemon and its clients, killed under load; tests/parity has it 500 times."""

from __future__ import annotations

import pytest
from daemons import Place
from killed_daemon import check_killed_daemon

pytestmark = pytest.mark.slow


def test_whatever_is_killed_nobody_hears_a_wrong_answer(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAW_MLX_HOME", place.environment["PAW_MLX_HOME"])
    check_killed_daemon(place, 15, seed=1)
