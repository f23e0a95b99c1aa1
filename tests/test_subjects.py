"""What is measured: rows that decode together, and what is not known of a model."""

from __future__ import annotations

import pytest

from paw_mlx.benchmarks import machine, rivals, subjects
from paw_mlx.benchmarks.sizes import SLACK_BYTES
from paw_mlx.interpreter.batch import Batch


@pytest.fixture
def paw():
    """A subject on an engine whose own bound admits one row."""
    paw = subjects.Paw(synthetic="tiny")
    paw.load()
    paw.prefill_decode(560, 4, 0)  # longer slots are left behind
    paw._interpreter._owner._batch._kv_bytes = 1
    return paw


@pytest.fixture
def refused(monkeypatch):
    """Calls that the engine had no room for."""
    seen, fits = [], Batch._fits

    def told(batch, joining):
        admitted = fits(batch, joining)
        seen.extend([] if admitted else [len(batch.rows) + len(joining)])
        return admitted

    monkeypatch.setattr(Batch, "_fits", told)
    return seen


def test_calls_at_once_decode_together(paw, refused):
    assert paw.calls(16, 8, 4)["together"] == 8
    assert not refused


def test_where_memory_has_no_room_fewer_decode_together(paw, refused, monkeypatch):
    row = paw.sizes.rows_bytes(560 + 64)
    monkeypatch.setattr(subjects.mx, "get_active_memory", lambda: 7)
    monkeypatch.setattr(machine, "limit_bytes", lambda: 4 * row - 1 + 7 + SLACK_BYTES)
    found = paw.calls(16, 8, 4)
    assert (found["num"], found["together"]) == (16, 3)
    assert refused
    monkeypatch.setattr(machine, "limit_bytes", lambda: None)
    assert paw.calls(8, 8, 4)["together"] == 8


def test_of_a_family_that_is_not_known_nothing_is_computed():
    chat = rivals.MlxLm(synthetic="tiny")
    chat.load()
    assert chat.expected(32, 8)["token_bytes"]
    chat._config = chat._config | {"model_type": "qwen3_moe"}
    assert chat.expected(32, 8) == {"expected_peak_bytes": None, "token_bytes": None}
