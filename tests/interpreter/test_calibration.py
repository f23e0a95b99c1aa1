"""How many drafted tokens pay: measured once on a GPU, and kept for the next process."""

from __future__ import annotations

import json

import pytest
import tiny

from paw_mlx import settings
from paw_mlx.device import assume_gpu
from paw_mlx.interpreter.engine import calibration
from paw_mlx.interpreter.engine.calibration import measure_max_draft, read_max_draft
from paw_mlx.interpreter.engine.draft import MAX_DRAFT
from paw_mlx.interpreter.models.load import load_base


@pytest.fixture
def base(tmp_path):
    return load_base(tiny.write_base(tmp_path / "base", "qwen3"))


def kept():
    return settings.cache_dir() / "drafts.json"


def test_without_a_gpu_nothing_is_measured(base):
    assert read_max_draft(base) == (MAX_DRAFT, True)
    assert not kept().exists()


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({1: 1.0, 5: 1.1, 8: 1.2}, 7),  # wide steps cost next to nothing
        ({1: 1.0, 5: 1.1, 8: 2.2}, 4),  # as where kernels serve 5 vectors at a time
        ({1: 1.0, 5: 1.1, 8: 1.5}, 4),  # the last tokens of a long draft are seldom right
        ({1: 1.0, 5: 4.0, 8: 6.0}, 0),
        ({1: 1.0, 5: 5.0, 8: 8.0}, 0),  # as where every token costs a step
    ],
)
def test_the_width_that_gives_the_most_is_chosen_and_kept(base, monkeypatch, seconds, best):
    monkeypatch.setattr(calibration, "_time_step", lambda base, kv, width: seconds[width])
    with assume_gpu():
        assert read_max_draft(base) == (4, False)
        assert measure_max_draft(base) == best
        assert read_max_draft(base) == (best, True)


def test_what_is_measured_here_is_one_of_the_widths(base):
    with assume_gpu():
        assert measure_max_draft(base) in (0, 4, 7)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"x": 1}'])
def test_a_damaged_file_counts_as_none_and_is_made_anew(base, text):
    kept().parent.mkdir(parents=True, exist_ok=True)
    kept().write_text(text)
    with assume_gpu():
        assert read_max_draft(base) == (4, False)
        measured = measure_max_draft(base)
        assert read_max_draft(base) == (measured, True)
    assert isinstance(json.loads(kept().read_text()), dict)


@pytest.mark.parametrize("damage", ["", "[1]", "[" * 100_000, "\0"])
def test_what_was_kept_and_is_damaged_is_measured_anew(base, damage):
    kept().parent.mkdir(parents=True, exist_ok=True)
    kept().write_text(damage)
    with assume_gpu():
        assert read_max_draft(base) == (4, False)
