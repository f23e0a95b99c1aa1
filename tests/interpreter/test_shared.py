"""Bases in one process: each loaded once, two at once, one budget for all."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tiny

import paw_mlx as paw
from paw_mlx import Interpreter
from paw_mlx.interpreter.engine.budget import Share


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    return [str(tiny.write_base(tmp_path / name, name)) for name in ("qwen3", "llama")]


def test_two_bases_load_at_once_and_one_base_once(folders, monkeypatch):
    load, both = Interpreter.load, threading.Barrier(2, timeout=30)
    loaded = []

    def wait_for_the_other(reference, **options):
        loaded.append(reference)
        both.wait()  # breaks unless two loads are under way
        return load(reference, **options)

    monkeypatch.setattr(Interpreter, "load", wait_for_the_other)
    programs = [tiny.program("qwen3", 1), tiny.program("llama", 1)] * 3

    def call(program, folder):
        fn = paw.function(program, interpreter=folder)
        return fn, fn("the disk is full", max_tokens=4)

    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(call, programs, folders * 3))
    assert sorted(loaded) == sorted(folders)
    assert len({id(fn.runner) for fn, _ in made}) == 2
    assert len({output for _, output in made}) == 2


def test_a_load_that_fails_is_tried_again_by_the_next(folders, monkeypatch):
    program = tiny.program("qwen3", 1)
    monkeypatch.setattr(Interpreter, "load", lambda *_, **__: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        paw.function(program, interpreter=folders[0])
    monkeypatch.undo()
    assert paw.function(program, interpreter=folders[0])("picnic", max_tokens=2) is not None


def test_bases_share_one_budget_equally(folders):
    gc.collect()
    share = Share()
    alone = share.bytes()
    with Interpreter.load(folders[0]) as first, Interpreter.load(folders[1]) as second:
        assert share.bytes() == alone // 3
        assert first.profile.name != second.profile.name
        second.close()
        assert share.bytes() == alone // 2
    assert share.bytes() == alone
    forgotten = Interpreter.load(folders[0])
    assert share.bytes() == alone // 2
    del forgotten
    gc.collect()
    assert share.bytes() == alone
    share.release()


@pytest.mark.slow
def test_a_program_runs_the_same_when_a_second_base_takes_half(folders):
    programs = [tiny.program("qwen3", seed) for seed in range(6)]
    with Interpreter.load(folders[0]) as first:
        before = [first.run(p, "the disk is full").text for p in programs]
        with Interpreter.load(folders[1]) as second:
            assert second.run(tiny.program("llama", 1), "picnic").text is not None
            assert [first.run(p, "the disk is full").text for p in programs] == before
