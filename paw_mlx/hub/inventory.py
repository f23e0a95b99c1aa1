"""Which bases and compilers lie on this machine, and how they are removed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from .. import settings
from ..errors import NotFound, listed
from ..locks import locked
from ..profiles import PROFILES, find_profile
from . import client


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


def installed() -> list[Installed]:
    """Return what lies here: bases, their quantized forms, and converted compilers, those of
    the Hugging Face cache too."""
    found = []
    for root, kind, source in (
        (settings.data_dir() / "bases", "base", "paw-mlx"),
        (settings.cache_dir() / "bases", "base", "quantized"),
        (settings.data_dir() / "compilers", "compiler", "converted"),
    ):
        for folder in [*root.glob("[!.]*"), *root.glob(".*.partial")]:
            if size := sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()):
                found.append(Installed(folder.name.lstrip("."), kind, source, size, folder))
    compilers = {profile.compiler for profile in PROFILES.values() if profile.compiler}
    for repo in client.cached_repos():
        name, is_compiler = repo.repo_id, repo.repo_id in compilers
        if repo.repo_type == "model" and repo.size_on_disk and (is_compiler or find_profile(name)):
            kind = "compiler" if is_compiler else "base"
            found.append(Installed(name, kind, "huggingface", repo.size_on_disk, repo.repo_path))
    return sorted(found, key=lambda one: (one.kind, one.source, one.name))


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
