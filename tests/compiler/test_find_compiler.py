"""Which compiler is meant: the one named, the base's, and without a network the embedded one."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import toy_compilers as toy
from compiling_repos import converted

import paw_mlx as paw
from paw_mlx import hub, settings
from paw_mlx.compiler.installed import EMBEDDED, SCORES, caution, compiler_for, find_compiler
from paw_mlx.formats.checkpoint import Checkpoint, compiler_fingerprint

SMOL = "smollm2-135m"


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("PAW_OFFLINE", "1")


@pytest.fixture
def embedded(tmp_path, monkeypatch) -> Path:
    """A toy in the place of the one that comes along: what is tested is who finds it."""
    base = toy.write_base(tmp_path / "base")
    folder = tmp_path / EMBEDDED.name
    toy.train(base, folder, replace(toy.TOY, steps=1))
    monkeypatch.setattr("paw_mlx.compiler.installed.EMBEDDED", folder)
    return folder


def test_bases_have_their_compilers():
    assert compiler_for(None) == compiler_for("qwen3-0.6b") == "paw-4b-qwen3-0.6b"
    assert compiler_for("Qwen/Qwen3-0.6B") == "paw-4b-qwen3-0.6b"
    assert compiler_for("gpt2") == "paw-4b-gpt2"
    names = (SMOL, "HuggingFaceTB/SmolLM2-135M-Instruct")
    assert {compiler_for(name) for name in names} == {EMBEDDED.name}
    with pytest.raises(paw.OptionError, match="no published compiler writes for me/mine") as raised:
        compiler_for("me/mine")
    assert "paw-mlx train-compiler" in raised.value.hints[0]
    assert SMOL in raised.value.hints[0]


def test_the_embedded_one_is_found_by_name_and_by_its_base(embedded):
    assert find_compiler(EMBEDDED.name, None).folder == embedded
    assert find_compiler(None, SMOL).folder == embedded
    assert find_compiler(EMBEDDED.name, None).encoder  # it needs no pseudo-compiler


def test_without_network_it_stands_in_for_the_published_one_and_says_so(embedded):
    said: list[str] = []
    assert find_compiler(None, None, progress=said.append).folder == embedded
    (line,) = said
    assert "paw-4b-qwen3-0.6b is not on this machine" in line
    assert f"compiling with the embedded {EMBEDDED.name}" in line


def test_it_stands_in_for_nothing_that_was_asked_for(embedded):
    for reference, interpreter in (("paw-4b-qwen3-0.6b", None), (None, "qwen3-0.6b")):
        with pytest.raises(paw.OfflineError, match="is not on this machine"):
            find_compiler(reference, interpreter)


def test_the_published_one_is_taken_where_it_is(embedded):
    repo, said = str(hub.compiler_repo("paw-4b-qwen3-0.6b")), []
    kept = settings.data_dir() / "compilers" / f"{repo.replace('/', '--')}-8bit"
    shutil.copytree(converted("qwen3", 8), kept)
    assert find_compiler(None, None, progress=said.append).folder == kept
    assert said == []


def test_a_trained_folder_is_a_compiler_that_bits_do_not_apply_to(embedded):
    assert find_compiler(str(embedded), None).folder == embedded
    with pytest.raises(paw.OptionError, match="no encoder of 4 bits"):
        find_compiler(str(embedded), None, bits=4)


def test_the_one_in_the_package_is_small_and_says_how_good_it_was_measured_to_be():
    assert sum(path.stat().st_size for path in EMBEDDED.iterdir()) < 16e6
    compiler = Checkpoint.read(EMBEDDED)
    said = caution(compiler)
    assert said
    report = json.loads((EMBEDDED / SCORES).read_text())
    (whole,) = (
        row
        for row in report["rows"]
        if (row["set"], row["method"], row["group"]) == ("test", "compiled", "all")
    )
    assert whole["functions"] == 60
    assert f"got {whole['accuracy']:.0%} of the cases right (classify " in said
    assert "paw-mlx pull paw-4b-qwen3-0.6b" in said
    # Whoever changes its weights measures them anew.
    assert report["settings"]["compiler_fingerprint"] == compiler_fingerprint(compiler)[:16]
    assert caution(replace(compiler, folder=EMBEDDED.parent)) is None
