"""A daemon and its clients killed five hundred times: as `tests/serving` has it, for longer."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "serving"))

from daemons import Place
from killed_daemon import check_killed_daemon

pytestmark = pytest.mark.slow


def test_whatever_is_killed_five_hundred_times_nobody_hears_a_wrong_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path)
    monkeypatch.setenv("PAW_MLX_HOME", place.environment["PAW_MLX_HOME"])
    check_killed_daemon(place, 500, seed=2)
