"""Which bases and compilers lie on this machine, and how they are removed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .. import settings
from ..errors import DiskError, NotFound, listed
from ..files import bytes_in, exists, is_litter, read_errors
from ..locks import locked
from ..profiles import PROFILES
from ..progress import Progress, quiet
from . import client
from .bases import find_namesake


@dataclass(frozen=True)
class Installed:
    """A base or a compiler on this machine.

    `kind` is `base` or `compiler`; `source` is `paw-mlx`, `quantized`, `converted`, or
    `huggingface` (its cache).
    """

    name: str
    kind: str
    source: str
    bytes: int
    path: Path


def installed(progress: Progress = quiet) -> list[Installed]:
    """Return what lies here: bases, their quantized forms, and converted compilers, those of
    the Hugging Face cache too.

    `progress` hears a line for what may not be read, which is left out.
    """
    found: list[Installed] = []

    def add(name: str, kind: str, source: str, folder: Path, *parts: str) -> None:
        with _told(progress):
            if size := next(filter(None, (bytes_in(folder / part) for part in parts or [""])), 0):
                found.append(Installed(name, kind, source, size, folder))

    for root, kind, source in (
        (settings.data_dir() / "bases", "base", "paw-mlx"),
        (settings.cache_dir() / "bases", "base", "quantized"),
        (settings.data_dir() / "compilers", "compiler", "converted"),
    ):
        with _told(progress):
            for folder in _list_models(root):
                add(folder.name.lstrip("."), kind, source, folder)
    compilers = {profile.compiler for profile in PROFILES.values() if profile.compiler}
    with _told(progress):
        for name, folder in client.cached_models():
            if name in compilers or find_namesake(name):
                kind = "compiler" if name in compilers else "base"
                # Snapshots are links to blobs, and files where a disk has no links.
                add(name, kind, "huggingface", folder, "blobs", "snapshots")
    return sorted(found, key=lambda one: (one.kind, one.source, one.name))


def _list_models(root: Path) -> list[Path]:
    """Return the folders of models in one of ours, those that an interrupt left included."""
    if not exists(root):
        return []
    with read_errors(root):
        names = sorted(path.name for path in root.iterdir())
    kept = [name for name in names if not name.startswith(".") or name.endswith(".partial")]
    return [root / name for name in kept if not is_litter(name)]


@contextmanager
def _told(progress: Progress) -> Iterator[None]:
    """Leave out what may not be read, and say so."""
    try:
        yield
    except DiskError as error:
        progress(f"{error}; left out")


def remove(name: str) -> int:
    """Remove a base or compiler by the name `installed` gives it; return the bytes freed.

    NotFound if nothing is called that, DiskError for the disk.
    """
    found = next((one for one in installed() if one.name == name), None)
    if found is None:
        there = listed([one.name for one in installed()]) or "none"
        raise NotFound(
            f"no base or compiler {name!r} is on this machine", hint=f"There is {there}."
        )
    # By its folder: huggingface_hub deletes by commit, and copies of a repo share commits.
    with locked(settings.data_dir() / f"{found.kind}s" / ".lock"):
        shutil.rmtree(found.path)
    return found.bytes
