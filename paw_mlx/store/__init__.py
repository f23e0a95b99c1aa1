"""Named, versioned programs on this machine: `programs/<name>/v<N>.paw` in the data folder.

What is here is whole: a program from outside is loaded before it gets its name, and the name
appears in one rename. One lock covers all writing, so two processes that add one program store
it once.
Cases kept with a program lie beside its versions, in `cases.jsonl`, one set for all of them; what a
file from outside carries of them goes there, and out of it.
A bare name means the newest version, unless it was rolled back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from .. import cases, formats
from ..errors import DiskError, NotFound, OptionError, listed
from ..files import exists, is_litter, read_errors, replacing
from ..locks import locked
from ..profiles import Profile
from ..program import Program
from ..program_names import (
    CASES,
    check_name,
    current_in,
    file_of,
    find_file,
    folder_of,
    is_name,
    is_reference,
    name_of,
    root,
    set_current,
    split,
    versions_in,
)
from ..progress import Progress, quiet
from .staging import stage, staging

__all__ = [
    "Removed",
    "StoredVersion",
    "add",
    "cases_file",
    "cases_of",
    "check_name",
    "current",
    "entries",
    "find",
    "is_name",
    "is_reference",
    "lock",
    "name_of",
    "num_cases_lost",
    "remove",
    "rename",
    "rollback",
]


@dataclass(frozen=True)
class StoredVersion:
    """One version of one program; `modified` is in seconds since 1970.

    `current` is the one that the bare name means. `num_cases` are kept with the name, for all its
    versions.
    """

    name: str
    version: int
    bytes: int
    path: Path
    modified: float
    current: bool
    num_cases: int


class Removed(NamedTuple):
    """What was removed: the bytes freed, and how many cases were kept with the name."""

    bytes: int
    num_cases: int


def add(
    source: Path | Program,
    name: str,
    version: int | None = None,
    *,
    dtype: str | None = "auto",
    profile: Profile | None = None,
    expected: int | None = None,
) -> int:
    """Store a program and return its version: the next one, or `version`.

    A file or folder is checked where it lies, and as it was copied. A `Program` is saved as
    `formats.save` does with `dtype` and `profile`, and what was saved is not checked again.
    What equals the newest gets no new version. Of the cases that it carries, those with an input
    that has none yet are kept with the name. Without `version`, the newest is the current
    one again. With `expected`, it is stored only while that is the current version, unless it is
    the newest already: OptionError otherwise. FormatError if it is no sound program, OptionError
    for a bad name or what cannot be written, DiskError for the disk.
    """
    folder = folder_of(name)
    meta = source.meta if isinstance(source, Program) else formats.load(source).meta
    # It is loaded before anything is written, so that errors name the user's file.
    with lock(), staging() as staged:
        carried = cases_of(source if isinstance(source, Path) else None, meta)
        kept = cases.fill_in(folder / CASES, carried)
        copied = stage(source, staged, dtype, profile)
        newest = max(versions_in(folder), default=0)
        known = False
        if version is None and newest:
            a, b = copied or formats.load(staged), formats.load(file_of(folder, newest))
            # One program, whenever it was made: by its id, its spec and what it computes.
            known = (a.id, a.spec, a.digest()) == (b.id, b.spec, b.digest())
        now = current_in(folder, versions_in(folder))
        if expected is not None and not known and now != expected:
            raise OptionError(
                f"v{now} is the current version of {name} by now, not v{expected}",
                hint="Nothing was stored: begin again from that one.",
            )
        stored = version or (newest if known else newest + 1)
        if not known:
            with replacing(file_of(folder, stored)) as temporary:
                staged.rename(temporary)
        if version is None:
            set_current(folder, stored)
        if kept is not None:
            with replacing(folder / CASES) as temporary:
                temporary.write_bytes(kept)
    return stored


def find(reference: str) -> Path:
    """Return the file of `name` (its current version) or `name@vN`.

    NotFound says where it looked.
    """
    if path := find_file(reference):
        return path
    name, version = split(reference)
    raise _no_version(name, _known(name), f"v{version}")


def current(name: str) -> int:
    """Return the version that a bare name means; NotFound if there is none."""
    return current_in(folder_of(name), _known(name))


def rollback(name: str, to: int | None = None) -> int:
    """Make the version before the current one current, or `to`, and return it.

    Nothing is deleted. NotFound if there is no such version, DiskError for the disk.
    """
    _known(name)
    with lock():
        versions, now = _known(name), current(name)
        if to is None:
            to = max((version for version in versions if version < now), default=None)
        if to not in versions:
            raise _no_version(name, versions, f"before v{now}" if to is None else f"v{to}")
        set_current(folder_of(name), to)
    return to


def entries(progress: Progress = quiet) -> list[StoredVersion]:
    """Return every stored version, by name, the newest first.

    `progress` hears a line for what may not be read, which is left out.
    """
    found: list[StoredVersion] = []
    for folder in _folders(root(), progress):
        try:
            found += _entries_of(folder)
        except DiskError as error:
            progress(f"{error}; left out")
    return sorted(found, key=lambda entry: (entry.name, -entry.version))


def _folders(top: Path, progress: Progress, depth: int = 2) -> Iterator[Path]:
    """Yield the folders that may be programs': two levels below the root."""
    try:
        with read_errors(top):
            inside = [path for path in top.iterdir() if path.is_dir()] if exists(top) else []
    except DiskError as error:
        progress(f"{error}; left out")
        return
    for folder in inside:
        if not folder.name.startswith("."):
            yield folder
            if depth > 1:
                yield from _folders(folder, quiet, depth - 1)


def _entries_of(folder: Path) -> Iterator[StoredVersion]:
    name, versions = folder.relative_to(root()).as_posix(), versions_in(folder)
    now = current_in(folder, versions)
    num_cases = cases.count_kept(folder / CASES)
    for version in versions if is_name(name) else ():
        path = file_of(folder, version)
        with read_errors(path):
            info = path.stat()
        yield StoredVersion(
            name, version, info.st_size, path, info.st_mtime, version == now, num_cases
        )


def remove(reference: str) -> Removed:
    """Remove `name` with all its versions, or `name@vN`; with the last one go its cases."""
    name, version = split(reference)
    folder = folder_of(name)
    find(reference)
    freed = 0
    with lock():
        num_cases, versions = num_cases_lost(reference), versions_in(folder)
        going = [version] if version else versions
        paths = [file_of(folder, number) for number in going]
        # The cases before the last version: a kill between them leaves what one can remove again.
        for path in [*paths[:-1], folder / CASES, paths[-1]] if going == versions else paths:
            freed += path.stat().st_size if path.exists() else 0
            path.unlink(missing_ok=True)
        set_current(folder, current_in(folder, versions_in(folder)))
        _remove_empty(folder)
    return Removed(freed, num_cases)


def rename(name: str, new: str) -> None:
    """Call a program otherwise, with all its versions and cases.

    NotFound if there is none, OptionError for a bad name or one that is taken, DiskError for the
    disk.
    """
    source, target = folder_of(name), folder_of(new)
    with lock():
        versions, now = _known(name), current(name)
        if versions_in(target):
            raise OptionError(
                f"{new} is the name of another program already",
                hint=f"`paw-mlx rm {new}` frees it.",
            )
        if not target.exists() and not any(path.is_dir() for path in source.iterdir()):
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)  # in one step: killed, it has the one name or the other
        else:  # another program's name begins with this one
            target.mkdir(parents=True, exist_ok=True)
            for path in [source / CASES, *(file_of(source, number) for number in versions)]:
                if path.exists():
                    path.rename(target / path.name)
            set_current(target, now)
            set_current(source, 0)
        _remove_empty(source)


def _remove_empty(folder: Path) -> None:
    """Remove a program's folder, and its user's, where nothing but systems' litter is in them."""
    for parent in (folder, folder.parent):
        if parent != root() and parent.exists():
            inside = list(parent.iterdir())
            if all(is_litter(path.name) and path.is_file() for path in inside):
                for path in inside:
                    path.unlink()
                parent.rmdir()


def num_cases_lost(reference: str) -> int:
    """Return how many cases would go with `name` or `name@vN`: none while a version stays."""
    name, version = split(reference)
    folder = folder_of(name)
    stays = version is not None and versions_in(folder) != [version]
    return 0 if stays else cases.count_kept(folder / CASES)


def lock() -> AbstractContextManager[None]:
    """Return what is held while the store is written; DiskError where the disk refuses."""
    return locked(root() / ".lock")


def cases_file(reference: str) -> Path:
    """Return the file of the cases kept with `name` or `name@vN`, whether it is there or not.

    NotFound if there is no such program.
    """
    find(reference)
    return folder_of(split(reference)[0]) / CASES


def cases_of(path: Path | None, meta: Mapping[str, Any]) -> list[cases.Case]:
    """Return the cases of the program in a file: those kept with its name, or those it carries.

    FormatError for cases that are none, DiskError if they may not be read.
    """
    if path and (name := name_of(path)):
        return cases.read_kept(folder_of(name) / CASES)
    return cases.carried(meta, str(path or "the program"))


def _known(name: str) -> list[int]:
    """Return the versions of a program; NotFound, with near names, if there are none."""
    versions = versions_in(folder_of(name))
    if not versions:
        near = get_close_matches(name, sorted({entry.name for entry in entries()}))
        raise NotFound(
            f"no program {name!r} in {root()}",
            hint=f"Did you mean {listed(near)}?" if near else "`paw-mlx ls` lists what is there.",
        )
    return versions


def _no_version(name: str, versions: list[int], wanted: str) -> NotFound:
    have = listed([f"v{number}" for number in sorted(versions, reverse=True)])
    return NotFound(f"{name} has no version {wanted} here: there is {have}")
