"""Conversions that are interrupted, repeated, or run beside others: never half."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from torch_files import torch_save
from upstreams import content, mapper, write_upstream

from paw_mlx import OptionError
from paw_mlx.convert.checkpoint import convert_compiler


def test_an_interrupted_conversion_goes_on_where_it_stopped(source, tmp_path):
    whole = content(convert_compiler(source, tmp_path / "whole"))

    def interrupted(message: str) -> None:
        if "layer 2" in message:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_compiler(source, tmp_path / "out", progress=interrupted)
    partial = tmp_path / ".out.partial"
    assert not (tmp_path / "out").exists()
    kept = {path.name: path.stat() for path in partial.rglob("*.safetensors")}
    assert kept.keys() == {"mapper.safetensors"} | {
        f"model-0000{i}-of-00003.safetensors" for i in (0, 1)
    }
    litter = partial / "compiler" / ".model-00002-of-00003.safetensors.xyz"  # of a killed process
    litter.mkdir()
    (litter / "half").write_text("half")
    said: list[str] = []
    out = convert_compiler(source, tmp_path / "out", progress=said.append)
    assert said == [
        "converting paw-tiny to 8 bits; 2 of 4 files are there",
        "converting layer 2 of 3",
        "converting layer 3 of 3",
    ]
    for path in out.rglob("*.safetensors"):
        if path.name in kept:
            was, now = kept[path.name], path.stat()
            assert (was.st_ino, was.st_mtime_ns) == (now.st_ino, now.st_mtime_ns)
    assert content(out) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "paw-tiny", "whole"]


@pytest.mark.parametrize("other", ["bits", "weights", "mapper"])
def test_what_another_conversion_left_is_not_gone_on_from(source, tmp_path, other):
    def interrupted(message: str) -> None:
        if "layer 3" in message:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_compiler(source, tmp_path / "out", progress=interrupted)
    if other == "weights":
        shutil.rmtree(source)
        write_upstream(source, seed=1)
    if other == "mapper":
        torch_save(source / "lora_mapper.pt", {n: a + 1 for n, a in mapper().items()})
    bits = 4 if other == "bits" else 8
    out = convert_compiler(source, tmp_path / "out", bits=bits)
    assert content(out) == content(convert_compiler(source, tmp_path / "fresh", bits=bits))


def test_what_is_done_is_returned_at_once_and_all_else_is_left_alone(source, tmp_path):
    out = convert_compiler(source, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    said: list[str] = []
    assert convert_compiler(source, out, progress=said.append) == out
    assert not said
    with pytest.raises(OptionError, match="is no conversion of paw-tiny to 4 bits"):
        convert_compiler(source, out, bits=4)
    with pytest.raises(OptionError, match="is converted already"):
        convert_compiler(out, tmp_path / "again")
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine.txt").write_text("mine")
    for name in ("mine", "mine.txt"):
        with pytest.raises(OptionError, match="exists, and is no conversion"):
            convert_compiler(source, tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "mine.txt", "out", "paw-tiny"]


def test_processes_that_convert_the_same_do_not_collide(source, tmp_path):
    code = (
        "import sys; from pathlib import Path; import paw_mlx.interpreter;"
        "from paw_mlx.convert.checkpoint import convert_compiler;"
        "convert_compiler(Path(sys.argv[1]), Path(sys.argv[2]), progress=print)"
    )
    script = [sys.executable, "-c", code, str(source), str(tmp_path / "out")]
    running = [
        subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [process.communicate(timeout=120) for process in running]
    assert [(p.returncode, err) for p, (_, err) in zip(running, said, strict=True)] == [(0, "")] * 3
    assert len([line for out, _ in said for line in out.splitlines() if "layer 2" in line]) == 1
    assert content(tmp_path / "out") == content(convert_compiler(source, tmp_path / "fresh"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "out", "paw-tiny"]


@pytest.mark.parametrize("limit", [4096, 20_000])  # in the mapper, in the embedding
def test_a_full_disk_is_one_sentence_and_can_be_gone_on_from(source, tmp_path, limit):
    code = (
        "import resource, signal, sys; from pathlib import Path; import paw_mlx.interpreter;"
        "from paw_mlx import DiskError; from paw_mlx.convert.checkpoint import convert_compiler;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "try: convert_compiler(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except DiskError as error: print(error)"
    )
    script = [sys.executable, "-c", code, str(source), str(tmp_path / "out")]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("cannot write ")
    assert len(done.stdout.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.partial", "paw-tiny"]
    out = convert_compiler(source, tmp_path / "out")
    assert content(out) == content(convert_compiler(source, tmp_path / "fresh"))
