"""What tests of `map` share: a tiny base, two programs, and the command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from shell import Paw, inside

from paw_mlx import Function, Interpreter, formats, load


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("map")
    tiny.write_base(folder / "base", "llama")
    for name, seed in (("one", 1), ("two", 2)):
        program = tiny.program("llama", seed)
        formats.save(program, folder / f"{name}.paw", dtype="f32", profile=tiny.profile("llama"))
    return folder


@pytest.fixture(scope="package")
def fn(folder: Path) -> Iterator[Function]:
    with Interpreter.load(str(folder / "base")) as interpreter:
        yield interpreter.function(load(folder / "one.paw"))


@pytest.fixture
def options(folder: Path) -> list[object]:
    return ["--interpreter", folder / "base", "--max-tokens", 8]


@pytest.fixture
def run(
    folder: Path, options: list[object], monkeypatch: pytest.MonkeyPatch, capfdbinary: Any
) -> Paw:
    """`paw-mlx map one.paw`, in this process."""
    call = inside(monkeypatch, capfdbinary)
    return lambda *words: call("map", folder / "one.paw", *words, *options)
