"""`paw_mlx.function`: the first thing a user types."""

from __future__ import annotations

import gc

import pytest
import tiny

import paw_mlx as paw
from paw_mlx import formats


@pytest.fixture
def base(tmp_path):
    return str(tiny.write_base(tmp_path / "base", "qwen3"))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "triage.paw"
    formats.save(tiny.program("qwen3"), path, dtype="f32", profile=tiny.profile("qwen3"))
    return path


def test_a_path_becomes_a_function_of_text(base, path):
    fn = paw.function(path, interpreter=base)
    result = fn.run("the disk is full", max_tokens=8)
    assert fn("the disk is full", max_tokens=8) == result.text
    assert "".join(fn.stream("the disk is full", max_tokens=8)) == result.text
    assert result.output_tokens <= 8
    assert result.tok_s >= 0


def test_functions_on_one_base_share_it_until_the_last_is_gone(base, path):
    first, second = (paw.function(str(path), interpreter=base) for _ in range(2))
    packed = paw.function(path, interpreter=base, bits=4, group_size=32)
    assert first.runner is second.runner
    assert packed.runner is not first.runner
    first.runner.close()
    third = paw.function(path, interpreter=base)
    assert third.runner is not second.runner
    assert third("picnic", max_tokens=4) is not None
    with pytest.raises(paw.ClosedError):
        second("picnic")
    from paw_mlx.interpreter.shared import _interpreters

    held = len(_interpreters)
    del first, second, third, packed
    gc.collect()
    assert len(_interpreters) < held


def test_what_is_not_there_is_named(base, path, tmp_path):
    with pytest.raises(paw.NotFound, match="nothing"):
        paw.function(tmp_path / "nothing.paw", interpreter=base)
    with pytest.raises(paw.NotFound, match="nowhere"):
        paw.function(path, interpreter=str(tmp_path / "nowhere"), offline=True)
    with pytest.raises(paw.OfflineError, match="qwen3"):
        paw.function(tiny.program("llama"), interpreter="qwen3-0.6b", offline=True)


def test_the_public_names_are_all_there_and_no_more():
    assert len(set(paw.__all__)) == len(paw.__all__) > 20
    for name in paw.__all__:
        assert getattr(paw, name).__name__.removeprefix("paw_mlx.") == name
    with pytest.raises(AttributeError, match=r"attribute .*generate"):
        paw.generate  # noqa: B018


def test_a_device_that_is_none_is_refused(monkeypatch):
    from paw_mlx import settings

    monkeypatch.setenv("PAW_MLX_DEVICE", "tpu")
    with pytest.raises(paw.OptionError, match="'tpu', and can be cpu or gpu"):
        settings.device()
