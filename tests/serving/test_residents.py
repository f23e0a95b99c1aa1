"""What stays in memory between calls: bases that are fetched, refused, replaced, unloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny

from paw_mlx import formats
from paw_mlx.errors import NotFound, OfflineError
from paw_mlx.interpreter import Interpreter
from paw_mlx.serving.residents import Residents

TEXT = "the disk is full"


def test_who_may_fetch_a_base_is_not_bound_by_who_may_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, load = tiny.write_base(tmp_path / "base", "llama"), Interpreter.load

    def fetch(reference: str, *, offline: bool, **how: Any) -> Interpreter:
        if offline:
            raise OfflineError(f"{reference} is not on this machine")
        return load(base, offline=True, **how)

    monkeypatch.setattr(Interpreter, "load", fetch)
    residents, program = Residents(), tiny.program("llama")
    try:
        with pytest.raises(OfflineError):
            residents.function(program, interpreter="far", offline=True)
        assert residents.function(program, interpreter="far").run(TEXT, max_tokens=2).output_tokens
    finally:
        residents.close()


def test_a_base_that_is_none_is_not_listed(tmp_path: Path) -> None:
    residents = Residents()
    try:
        with pytest.raises(NotFound):
            residents.function(tiny.program("llama"), interpreter=str(tmp_path / "none"))
        assert not residents.bases
        base = tiny.write_base(tmp_path / "base", "llama")
        fn = residents.function(tiny.program("llama"), interpreter=str(base))
        fn.run(TEXT, max_tokens=2)
        (listed,) = residents.bases
        assert (listed.reference, listed.loaded, listed.num_calls) == (str(base), True, 1)
        assert listed.unload()
        assert [one.loaded for one in residents.bases] == [False]
        assert fn.run(TEXT, max_tokens=2).output_tokens  # it is loaded again
    finally:
        residents.close()


def test_a_program_is_read_again_when_its_file_is_another(tmp_path: Path) -> None:
    residents, path = Residents(), tmp_path / "program.paw"
    formats.save(tiny.program("llama", 1), path, dtype="f32", profile=tiny.profile("llama"))
    first = residents.program(str(path))
    assert residents.program(str(path)) is first
    formats.save(tiny.program("llama", 2), path, dtype="f32", profile=tiny.profile("llama"))
    assert residents.program(str(path)).digest() != first.digest()
