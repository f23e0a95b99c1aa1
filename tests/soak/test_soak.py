"""Some hundred mixed calls leave nothing behind and answer as a fresh process does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import soak_ways
from soaking import Soak

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no Linux"),
]


@pytest.mark.parametrize("way", [soak_ways.python, soak_ways.daemon])
def test_mixed_calls_leave_no_descriptor_and_no_thread_and_answer_as_alone(
    way: Callable[..., tuple[Soak, list[str]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PAW_MLX_HOME", str(tmp_path / "home"))
    soak, faults = way(tmp_path, 300, 0)
    assert faults == []
    assert soak.counts["run"] > 1000  # 800 of them in crowds
    assert len(soak.answers) > 200
