"""Named, versioned programs on this machine: `programs/<name>/v<N>.paw` in the data folder.

What is here is whole: a program from outside is loaded before it gets its name, and the name
appears in one rename. One lock covers all writing, so two processes that add one program store
it once.
A name is `name` or `user/name`; a reference may pick a version: `name@v2`. A bare name means
the newest version, unless it was rolled back: then `.current` beside the versions says which.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from . import formats, settings
from .errors import DiskError, NotFound, OptionError, listed
from .files import exists, find_files, is_litter, read_errors, replacing
from .locks import locked
from .profiles import Profile
from .program import Program
from .progress import Progress, quiet

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}(/[a-z0-9][a-z0-9._-]{0,99})?")
_REFERENCE = re.compile(r"(?P<name>[^@]+)(?:@v(?P<version>[1-9]\d{0,8}))?")
_FILE = re.compile(r"v([1-9]\d{0,8})\.paw")
_CURRENT = ".current"  # no program can be called that, so it is in nobody's way


@dataclass(frozen=True)
class StoredVersion:
    """One version of one program; `modified` is in seconds since 1970.

    `current` is the one that the bare name means.
    """

    name: str
    version: int
    bytes: int
    path: Path
    modified: float
    current: bool


def is_name(name: str) -> bool:
    """Return whether a program may be called that: no path, and no suffix that a file has."""
    return bool(_NAME.fullmatch(name)) and not any(p.endswith(".paw") for p in name.split("/"))


def check_name(name: str) -> None:
    """Raise OptionError unless a program may be called that."""
    if not is_name(name):
        raise OptionError(
            f"{name!r} cannot name a program",
            hint="Use a-z, 0-9, '.', '_' and '-', as in `triage` or `me/triage`; not .paw.",
        )


def is_reference(text: str) -> bool:
    """Return whether a text is `name` or `name@vN`."""
    match = _REFERENCE.fullmatch(text)
    return match is not None and is_name(match["name"])


def add(
    source: Path | Program,
    name: str,
    version: int | None = None,
    *,
    dtype: str | None = "auto",
    profile: Profile | None = None,
) -> int:
    """Store a program and return its version: the next one, or `version`.

    A file or folder is checked where it lies, and as it was copied. A `Program` is saved as
    `formats.save` does with `dtype` and `profile`, and what was saved is not checked again.
    What equals the newest gets no new version. Without `version`, the newest is the current
    one again. FormatError if it is no sound program, OptionError for a bad name or what cannot
    be written, DiskError for the disk.
    """
    folder = _folder(name)
    if isinstance(source, Path):
        formats.load(source)  # before anything is written, so that errors name the user's file
    with locked(_root() / ".lock"), _staging() as staged:
        copied = _stage(source, staged, dtype, profile)
        newest = max(_versions(folder), default=0)
        known = False
        if version is None and newest:
            a, b = copied or formats.load(staged), formats.load(_file(folder, newest))
            # One program, whenever it was made: by its id, its spec and what it computes.
            known = (a.id, a.spec, a.digest()) == (b.id, b.spec, b.digest())
        stored = version or (newest if known else newest + 1)
        if not known:
            with replacing(_file(folder, stored)) as temporary:
                staged.rename(temporary)
        if version is None:
            _set_current(folder, stored)
    return stored


def find(reference: str) -> Path:
    """Return the file of `name` (its current version) or `name@vN`.

    NotFound says where it looked.
    """
    name, version = _split(reference)
    versions = _known(name)
    if version is not None and version not in versions:
        raise _no_version(name, versions, f"v{version}")
    return _file(_folder(name), version or _current(_folder(name), versions))


def current(name: str) -> int:
    """Return the version that a bare name means; NotFound if there is none."""
    return _current(_folder(name), _known(name))


def rollback(name: str, to: int | None = None) -> int:
    """Make the version before the current one current, or `to`, and return it.

    Nothing is deleted. NotFound if there is no such version, DiskError for the disk.
    """
    _known(name)
    with locked(_root() / ".lock"):
        versions, now = _known(name), current(name)
        if to is None:
            to = max((version for version in versions if version < now), default=None)
        if to not in versions:
            raise _no_version(name, versions, f"before v{now}" if to is None else f"v{to}")
        _set_current(_folder(name), to)
    return to


def entries(progress: Progress = quiet) -> list[StoredVersion]:
    """Return every stored version, by name, the newest first.

    `progress` hears a line for what may not be read, which is left out.
    """
    found: list[StoredVersion] = []
    for folder in _folders(_root(), progress):
        try:
            found += _entries_of(folder)
        except DiskError as error:
            progress(f"{error}; left out")
    return sorted(found, key=lambda entry: (entry.name, -entry.version))


def _folders(root: Path, progress: Progress, depth: int = 2) -> Iterator[Path]:
    """Yield the folders that may be programs': two levels below the root."""
    try:
        with read_errors(root):
            inside = [path for path in root.iterdir() if path.is_dir()] if exists(root) else []
    except DiskError as error:
        progress(f"{error}; left out")
        return
    for folder in inside:
        if not folder.name.startswith("."):
            yield folder
            if depth > 1:
                yield from _folders(folder, quiet, depth - 1)


def _entries_of(folder: Path) -> Iterator[StoredVersion]:
    name, versions = folder.relative_to(_root()).as_posix(), _versions(folder)
    now = _current(folder, versions)
    for version in versions if is_name(name) else ():
        path = _file(folder, version)
        with read_errors(path):
            info = path.stat()
        yield StoredVersion(name, version, info.st_size, path, info.st_mtime, version == now)


def remove(reference: str) -> int:
    """Remove `name` with all its versions, or `name@vN`; return the bytes freed."""
    name, version = _split(reference)
    folder = _folder(name)
    find(reference)
    freed = 0
    with locked(_root() / ".lock"):
        for number in [version] if version else _versions(folder):
            path = _file(folder, number)
            freed += path.stat().st_size if path.exists() else 0
            path.unlink(missing_ok=True)
        _set_current(folder, _current(folder, _versions(folder)))
        for parent in (folder, folder.parent):
            if parent != _root() and parent.exists():
                inside = list(parent.iterdir())
                if all(is_litter(path.name) and path.is_file() for path in inside):
                    for path in inside:
                        path.unlink()
                    parent.rmdir()
    return freed


def _root() -> Path:
    return settings.data_dir() / "programs"


def _folder(name: str) -> Path:
    check_name(name)
    return _root() / name


def _file(folder: Path, version: int) -> Path:
    return folder / f"v{version}.paw"


def _versions(folder: Path) -> list[int]:
    matches = [_FILE.fullmatch(path.name) for path in find_files(folder, "v*.paw")]
    return [int(match[1]) for match in matches if match]


def _known(name: str) -> list[int]:
    """Return the versions of a program; NotFound, with near names, if there are none."""
    versions = _versions(_folder(name))
    if not versions:
        near = get_close_matches(name, sorted({entry.name for entry in entries()}))
        raise NotFound(
            f"no program {name!r} in {_root()}",
            hint=f"Did you mean {listed(near)}?" if near else "`paw-mlx ls` lists what is there.",
        )
    return versions


def _current(folder: Path, versions: list[int]) -> int:
    """Return which of these versions `.current` names, else the newest; 0 without any."""
    try:
        with read_errors(folder), (folder / _CURRENT).open("rb") as file:
            match = re.fullmatch(rb"v([1-9]\d{0,8})\n", file.read(12))
    except FileNotFoundError:
        match = None
    chosen = int(match[1]) if match else 0
    return chosen if chosen in versions else max(versions, default=0)


def _set_current(folder: Path, version: int) -> None:
    """Write `.current`, under the lock, or remove it where the newest is meant."""
    if version == max(_versions(folder), default=0):
        (folder / _CURRENT).unlink(missing_ok=True)
        return
    with replacing(folder / _CURRENT) as temporary:
        temporary.write_text(f"v{version}\n", encoding="ascii")


def _split(reference: str) -> tuple[str, int | None]:
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise OptionError(
            f"{reference!r} does not refer to a program", hint="Write `name` or `name@v2`."
        )
    return match["name"], int(match["version"]) if match["version"] else None


def _no_version(name: str, versions: list[int], wanted: str) -> NotFound:
    have = listed([f"v{number}" for number in sorted(versions, reverse=True)])
    return NotFound(f"{name} has no version {wanted} here: there is {have}")


@contextmanager
def _staging() -> Iterator[Path]:
    """Yield where a program waits for its name: a fixed place, used under the lock.

    What a killed process left there is swept by the next.
    """
    folder = _root() / ".staging"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder / "program.paw"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _stage(
    source: Path | Program, staged: Path, dtype: str | None, profile: Profile | None
) -> Program | None:
    """Write a program where it waits; load and return the copy of one from outside."""
    if isinstance(source, Program):
        formats.save(source, staged, dtype, profile=profile)
        return None
    if source.is_dir():
        formats.save(formats.load(source), staged, dtype=None)
    else:
        with read_errors(source):
            shutil.copyfile(source, staged)
    return formats.load(staged)
