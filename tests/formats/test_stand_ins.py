"""What stands where a file did not arrive, and what one may not read, is called what it is."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import tiny
from unreadable import open_folder, refused

from paw_mlx import formats
from paw_mlx.convert import torch_adapter
from paw_mlx.convert.program import convert
from paw_mlx.errors import DiskError, FormatError, OptionError, PawError
from paw_mlx.formats.fingerprint import base_fingerprint
from paw_mlx.interpreter.base.read import read_source

GOLDEN = Path(__file__).parents[1] / "golden"
POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    b"size 269060552\n"
)
PAGES = {
    "lfs": (POINTER, "is a Git LFS pointer: the file itself of 269,060,552 bytes"),
    "annex": (b"/annex/objects/SHA256E-s5--ab.bin\n", "is a git-annex pointer"),
    "html": (b"\xef\xbb\xbf\n<!DOCTYPE html>\n<html><body>Sign in</body></html>", "a web page"),
    "hub": (b"Entry not found", "a hub's answer and no file: 'Entry not found'"),
}
# What is read, the file in it that did not arrive, and who reads it.
Reader = Callable[[Path], object]
READERS: dict[str, tuple[str, str, Reader]] = {
    "archive": ("program.paw", "", formats.load),
    "program's meta": ("program", "meta.json", formats.load),
    "program's adapter": ("program", "adapter.gguf", formats.load),
    "legacy": ("legacy.paw", "", formats.load),
    "gguf": ("adapter-f16.gguf", "", formats.read_adapter),
    "peft": ("peft", "adapter_model.safetensors", formats.read_adapter),
    "peft's config": ("peft", "adapter_config.json", formats.read_adapter),
    "mlx": ("mlx", "adapters.safetensors", formats.read_adapter),
    "torch": ("torch/adapters/bare.pt", "", torch_adapter.is_torch),
    "base": ("base", "model.safetensors", read_source),
    "base's fingerprint": ("base", "model.safetensors", base_fingerprint),
    "base's config": ("base", "config.json", read_source),
    "base's tokenizer": ("base", "tokenizer.json", read_source),
}


def place(folder: Path, what: str) -> Path:
    """Copy what is read into a folder, or make it."""
    if what == "base":
        return tiny.write_base(folder / what, "llama")
    source, target = GOLDEN / what, folder / Path(what).name
    if source.is_dir():
        return Path(shutil.copytree(source, target))
    if source.exists():
        return Path(shutil.copyfile(source, target))
    target.write_bytes(b"")
    return target


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("who", READERS)
def test_every_reader_says_that_a_file_did_not_arrive(tmp_path: Path, who: str, page: str) -> None:
    what, member, read = READERS[who]
    data, words = PAGES[page]
    path = place(tmp_path, what)
    (path / member).write_bytes(data) if member else path.write_bytes(data)
    with pytest.raises(FormatError, match=words) as caught:
        read(path)
    assert (member or path.name) in str(caught.value)
    assert caught.value.hints


def test_a_pointer_inside_an_archive_is_one_too(tmp_path: Path) -> None:
    """As in the ZIP that a code host makes of a repository, which has pointers and no files."""
    with (
        zipfile.ZipFile(GOLDEN / "program.paw") as source,
        zipfile.ZipFile(tmp_path / "x.paw", "w") as target,
    ):
        for name in source.namelist():
            target.writestr(name, POINTER if name == "adapter.gguf" else source.read(name))
    with pytest.raises(FormatError, match=r"adapter\.gguf is a Git LFS pointer"):
        formats.load(tmp_path / "x.paw")


def test_a_template_may_be_about_html(tmp_path: Path) -> None:
    folder = place(tmp_path, "program")
    (folder / "prompt_template.txt").write_text("<html>{INPUT_PLACEHOLDER}</html>")
    assert formats.load(folder).template.prefix == "<html>"


def test_options_of_torch_do_not_hide_it(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    path.write_bytes(POINTER)
    with pytest.raises(FormatError, match="Git LFS"):
        convert(path, tmp_path / "x", to="peft", alpha=16)
    with pytest.raises(OptionError, match="this layout says its own"):
        convert(GOLDEN / "peft", tmp_path / "x", to="mlx", rslora=True)


@pytest.mark.parametrize("who", READERS)
def test_what_one_may_not_read_is_not_called_damaged(who: str) -> None:
    what, member, read = READERS[who]
    with open_folder() as folder:
        path = place(folder, what)
        with suppress(PawError):
            read(path)  # what is imported late has to be readable, too
        target = path / member if member else path
        for closed in [target, path] if member else [target]:
            with refused(closed), pytest.raises(DiskError) as caught:
                read(path)
            assert str(closed) in str(caught.value)
            assert "Permission denied" in str(caught.value)
            assert "damage" not in str(caught.value)
            assert caught.value.hints
