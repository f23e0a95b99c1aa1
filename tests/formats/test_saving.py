"""A save gives the whole new file or leaves the old one, and removes nothing else."""

from __future__ import annotations

import json
import signal
import zipfile
from dataclasses import replace
from pathlib import Path

import layouts
import numpy as np
import pytest

from paw_mlx import formats
from paw_mlx.errors import AdapterMismatch, OptionError
from paw_mlx.profiles import Profile
from paw_mlx.program import Program, Template

FOUR = ["adapter.gguf", "prompt_template.txt", "meta.json", "pseudo_program.txt"]


@pytest.mark.parametrize("layout", ["paw", "directory"])
def test_program_comes_back_as_it_was(
    program: Program, llama: Profile, tmp_path: Path, layout: str
) -> None:
    formats.save(program, tmp_path / "p", None, layout=layout, profile=llama)
    assert formats.sniff(tmp_path / "p") == layout
    got = formats.load(tmp_path / "p")
    assert got.template == program.template
    assert (got.spec, got.pseudo_program) == (program.spec, program.pseudo_program)
    assert (got.interpreter, got.id) == ("tiny", program.id)
    assert got.meta["compiler_snapshot"] == "by-hand"
    assert got.adapter is not None
    for site in got.adapter.sites:
        assert np.array_equal(got.adapter.delta(site), program.adapter.delta(site))


def test_archive_holds_exactly_the_four_members(
    program: Program, llama: Profile, tmp_path: Path
) -> None:
    formats.save(program, tmp_path / "p.paw", profile=llama)
    with zipfile.ZipFile(tmp_path / "p.paw") as archive:
        assert archive.namelist() == FOUR
        meta = json.loads(archive.read("meta.json"))
    assert meta["version"] == 3
    assert (meta["lora_rank"], meta["lora_alpha"], meta["prefix_steps"]) == (32, 8, 0)
    assert meta["program_id"] == program.digest()
    formats.save(replace(program, pseudo_program=""), tmp_path / "q.paw", profile=llama)
    with zipfile.ZipFile(tmp_path / "q.paw") as archive:
        assert archive.namelist() == FOUR[:3]


def test_further_members_are_tolerated_and_not_written_again(
    program: Program, llama: Profile, tmp_path: Path
) -> None:
    formats.save(program, tmp_path / "p.paw", profile=llama)
    with zipfile.ZipFile(tmp_path / "p.paw", "a") as archive:
        archive.writestr("prefix_cache.bin", b"x")
        archive.writestr("folder/", b"")
    formats.save(formats.load(tmp_path / "p.paw"), tmp_path / "q.paw", profile=llama)
    with zipfile.ZipFile(tmp_path / "q.paw") as archive:
        assert archive.namelist() == FOUR


def test_same_program_gives_the_same_bytes(
    program: Program, llama: Profile, tmp_path: Path
) -> None:
    formats.save(program, tmp_path / "a.paw", profile=llama)
    formats.save(formats.load(tmp_path / "a.paw"), tmp_path / "b.paw", profile=llama)
    formats.save(program, tmp_path / "c.paw", profile=llama)
    first = (tmp_path / "a.paw").read_bytes()
    assert first == (tmp_path / "b.paw").read_bytes() == (tmp_path / "c.paw").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.paw") as archive:
        assert {info.date_time[0] for info in archive.infolist()} == {1980}


def test_record_is_kept_and_a_foreign_id_is_not(
    program: Program, llama: Profile, tmp_path: Path
) -> None:
    meta = {"version": 4, "runtime_id": "x-1", "prefix_steps": 64, "program_id": "ab" * 8}
    formats.save(replace(program, meta=meta), tmp_path / "a.paw", profile=llama)
    got = formats.load(tmp_path / "a.paw").meta
    assert {key: got[key] for key in meta} == meta
    formats.save(replace(program, meta={"program_id": "me/x"}), tmp_path / "b.paw", profile=llama)
    assert formats.load(tmp_path / "b.paw").id == program.digest()


def test_slash_at_the_end_means_a_folder(program: Program, llama: Profile, tmp_path: Path) -> None:
    formats.save(program, f"{tmp_path}/p/", profile=llama)
    assert sorted(p.name for p in (tmp_path / "p").iterdir()) == sorted(FOUR)
    formats.save(replace(program, pseudo_program=""), f"{tmp_path}/p/", profile=llama)
    assert sorted(p.name for p in (tmp_path / "p").iterdir()) == sorted(FOUR[:3])


def test_folder_may_hold_peft_files_for_its_adapter(
    program: Program, llama: Profile, tmp_path: Path
) -> None:
    formats.save(program, tmp_path / "p", "f32", layout="directory", profile=llama)
    (tmp_path / "p" / "adapter.gguf").unlink()
    formats.save_adapter(program.adapter, tmp_path / "peft", "peft", llama)
    for file in (tmp_path / "peft").iterdir():
        file.rename(tmp_path / "p" / file.name)
    got = formats.load(tmp_path / "p")
    for site in got.adapter.sites:
        assert np.array_equal(got.adapter.delta(site), program.adapter.delta(site))


@pytest.mark.parametrize(
    ("change", "options", "sentence"),
    [
        ({"adapter": None}, {}, "no adapter"),
        ({"interpreter": "someone/else"}, {"profile": None}, "'someone/else' is not known"),
        ({}, {"layout": "mlx"}, "saved as paw or directory"),
        ({}, {"dtype": "mlx-q4"}, "paw is written in f32, f16, bf16, q8_0, q4_0, not mlx-q4"),
        ({"spec": "\ud800"}, {}, "cannot be written"),
        ({"meta": {"x": object()}}, {}, "cannot be written"),
        ({"template": Template("\udc80", "")}, {}, "cannot be written"),
    ],
)
def test_program_that_cannot_be_written_leaves_nothing(
    program: Program, llama: Profile, tmp_path: Path, change, options, sentence: str
) -> None:
    with pytest.raises(OptionError, match=sentence):
        formats.save(replace(program, **change), tmp_path / "p", **{"profile": llama, **options})
    assert not list(tmp_path.iterdir())


def test_program_for_another_interpreter_is_not_written(program: Program, tmp_path: Path) -> None:
    with pytest.raises(AdapterMismatch, match=r"qwen3-0\.6b"):
        formats.save(replace(program, interpreter="Qwen/Qwen3-0.6B"), tmp_path / "p")


def test_folder_with_other_files_is_not_replaced(
    program: Program, llama: Profile, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("mine")
    for save in (
        lambda: formats.save(program, tmp_path / "home", layout="directory", profile=llama),
        lambda: formats.save(program, tmp_path / "home", profile=llama),
        lambda: formats.save_adapter(program.adapter, tmp_path / "home", "peft", llama),
    ):
        with pytest.raises(OptionError, match=r"thesis\.txt|is a folder"):
            save()
    assert (tmp_path / "home" / "thesis.txt").read_text() == "mine"


def test_unknown_layout_or_dtype_is_named(program: Program, llama: Profile, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="'onnx'"):
        formats.save_adapter(program.adapter, tmp_path / "a", "onnx", llama)
    for layout, held in (("peft", "bf16"), ("mlx", "bf16, mlx-q4")):
        with pytest.raises(
            OptionError, match=rf"{layout} is written in f32, f16, {held}, not q4_0"
        ) as one:
            formats.save_adapter(program.adapter, tmp_path / "a", layout, llama, "q4_0")
        assert one.value.hints == ["q4_0 is for paw, directory, gguf."]


def test_file_may_be_replaced_by_what_was_read_from_it(
    program: Program, llama: Profile, tmp_path: Path
) -> None:
    formats.save_adapter(program.adapter, tmp_path / "a", "gguf", llama)
    adapter = formats.load_adapter(tmp_path / "a")
    before = (tmp_path / "a").read_bytes()
    formats.save_adapter(adapter, tmp_path / "a", "gguf", llama)
    assert (tmp_path / "a").read_bytes() == before


# --- failures while writing --------------------------------------------------------------

SCRIPT = """
import os, resource, signal, sys, time
import layouts
from paw_mlx import formats
from paw_mlx.errors import DiskError

layout, target, source, how = sys.argv[1:]
program = formats.load(source)
if how == "full":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
else:
    def slow(descriptor):
        print("writing", flush=True)
        while True:
            time.sleep(0.01)  # one long sleep would not hear of a signal that came just before it
    os.fsync = slow
try:
    layouts.save(program, target, layout, layouts.base("llama"), "f32")
except DiskError as error:
    print("DiskError:", error)
"""


def content(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return {file.name: file.read_bytes() for file in files}


@pytest.fixture(params=[*layouts.PROGRAMS, *layouts.ADAPTERS])
def saved(
    request: pytest.FixtureRequest, program: Program, llama: Profile, tmp_path: Path
) -> tuple[str, Path, Path]:
    """A layout, a path where it was saved, and a source to save again from."""
    layout, target = request.param, tmp_path / "here" / "target"
    formats.save(program, tmp_path / "source.paw", "f32", profile=llama)
    layouts.save(program, target, layout, llama, "f16")
    return layout, target, tmp_path / "source.paw"


def test_full_disk_leaves_the_old_file_and_nothing_else(saved: tuple[str, Path, Path]) -> None:
    layout, target, source = saved
    before = content(target)
    process = layouts.start(SCRIPT, layout, target, source, "full")
    out, err = process.communicate(timeout=60)
    assert out.startswith("DiskError: cannot write"), err
    assert "File too large" in out
    assert err == ""
    assert content(target) == before
    assert list(target.parent.iterdir()) == [target]


def test_interrupt_while_writing_leaves_the_old_file(saved: tuple[str, Path, Path]) -> None:
    layout, target, source = saved
    before = content(target)
    process = layouts.start(SCRIPT, layout, target, source, "slow")
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in err
    assert content(target) == before
    assert list(target.parent.iterdir()) == [target]
