"""A and B stay in their file: loading takes no memory, and the file may be replaced."""

from __future__ import annotations

import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import layouts
import numpy as np
import pytest

from paw_mlx import formats
from paw_mlx.adapter import Adapter
from paw_mlx.errors import FormatError
from paw_mlx.formats import untrusted
from paw_mlx.profiles import Profile
from paw_mlx.program import Program

LAYOUTS = ["paw", "directory", "peft", "gguf"]


@pytest.fixture
def base() -> Profile:
    return layouts.large_base()


@pytest.fixture
def save(base: Profile, program: Program, make: Callable[..., Adapter], tmp_path: Path):
    """Save a program of 3 MB, its numbers all times `factor`; gives its adapter and place."""

    def saved(layout: str, factor: float = 1.0) -> tuple[Adapter, Path]:
        adapter, path = make(base, alpha=8.0 * factor), tmp_path / layout
        layouts.save(replace(program, adapter=adapter), path, layout, base, "f32")
        return adapter, path

    return saved


def equal(a: Adapter, b: Adapter) -> bool:
    return a.sites.keys() == b.sites.keys() and all(
        np.array_equal(a.delta(site), b.delta(site)) for site in a.sites
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_loaded_adapter_is_a_view_of_its_file(save, base: Profile, layout: str) -> None:
    adapter, path = save(layout)
    tracemalloc.start()
    loaded = formats.load_adapter(path, base)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < adapter.nbytes / 8
    assert equal(loaded, adapter)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_replaced_file_does_not_change_what_was_loaded(save, base: Profile, layout: str) -> None:
    adapter, path = save(layout)
    loaded = formats.load_adapter(path, base)
    other, _ = save(layout, factor=3.0)
    assert equal(loaded, adapter)
    assert equal(formats.load_adapter(path, base), other)
    path.rename(path.with_name("gone"))
    assert equal(loaded, adapter)


def test_a_deflated_adapter_is_inflated(save, base: Profile, tmp_path: Path) -> None:
    adapter, path = save("paw")
    with zipfile.ZipFile(path) as stored, zipfile.ZipFile(tmp_path / "z", "w", 8) as deflated:
        for info in stored.infolist():
            deflated.writestr(info.filename, stored.read(info))
    assert equal(formats.load(tmp_path / "z", base).adapter, adapter)


def test_extra_fields_before_a_stored_adapter_are_skipped(save, base: Profile, tmp_path) -> None:
    adapter, path = save("paw")
    with zipfile.ZipFile(path) as stored, zipfile.ZipFile(tmp_path / "z", "w") as other:
        for info in stored.infolist():
            data, info.extra = stored.read(info), b"\xff\xff\x03\0abc"
            other.writestr(info, data)
    assert equal(formats.load(tmp_path / "z", base).adapter, adapter)


def test_a_damaged_stored_adapter_is_refused(save, base: Profile) -> None:
    _, path = save("paw")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(FormatError, match="Bad CRC-32"):
        formats.load(path, base)


@pytest.mark.parametrize(
    ("at", "value"), [(26, 0xFFFF), (28, 0xFFFF), (28, 7), (30, 0x6161), (18, 5), (22, 5)]
)
def test_a_stored_adapter_whose_header_lies_is_refused(
    save, base: Profile, at: int, value: int
) -> None:
    """Lengths of name and extras, the name, packed and full sizes."""
    _, path = save("paw")
    data = bytearray(path.read_bytes())
    size = 2 if at > 22 else 4
    start = data.index(b"PK\3\4") if size == 2 else data.index(b"PK\1\2") + 2
    data[start + at : start + at + size] = value.to_bytes(size, "little")
    path.write_bytes(data)
    with pytest.raises(FormatError):
        formats.load(path, base)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_without_maps_files_are_read(
    save, base: Profile, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, path = save(layout)

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("no such device")

    monkeypatch.setattr(untrusted.mmap, "mmap", refuse)
    assert equal(formats.load_adapter(path, base), adapter)


def test_more_programs_than_descriptors_may_be_loaded(save, base: Profile) -> None:
    resource = pytest.importorskip("resource")
    adapter, path = save("paw")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (160, hard))  # macOS allows a process 256
    try:
        loaded = [formats.load(path, base) for _ in range(150)]
        for file in [path.open("rb") for _ in range(20)]:  # others want some too
            file.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert equal(loaded[-1].adapter, adapter)
