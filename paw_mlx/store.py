"""Named, versioned programs on this machine: `programs/<name>/v<N>.paw` in the data folder.

What is here is whole: a program is loaded before it gets its name, and the name appears in
one rename. One lock covers all writing, so two processes that add one program store it once.
A name is `name` or `user/name`; a reference may pick a version: `name@v2`.
"""

from __future__ import annotations

import filecmp
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from . import settings
from .errors import HubError, NotFound, OptionError, listed
from .files import replacing

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}(/[a-z0-9][a-z0-9._-]{0,99})?")
_REFERENCE = re.compile(r"(?P<name>[^@]+)(?:@v(?P<version>[1-9]\d{0,8}))?")
_FILE = re.compile(r"v([1-9]\d{0,8})\.paw")


@dataclass(frozen=True)
class Entry:
    """One version of one program; `modified` is in seconds since 1970."""

    name: str
    version: int
    bytes: int
    path: Path
    modified: float


def is_name(name: str) -> bool:
    """Whether a program may be called that: no path, no suffix that a file would have."""
    return bool(_NAME.fullmatch(name)) and not any(p.endswith(".paw") for p in name.split("/"))


def is_reference(text: str) -> bool:
    """Whether a text is `name` or `name@vN`."""
    match = _REFERENCE.fullmatch(text)
    return match is not None and is_name(match["name"])


def add(source: Path | bytes, name: str, version: int | None = None) -> int:
    """Store a program, given as its file, folder or bytes, and return its version.

    The version is the next one, or `version`. What equals the newest gets no new one.
    FormatError if it is no sound program, OptionError for a bad name, HubError for the disk.
    """
    from . import formats

    folder = _folder(name)
    if isinstance(source, Path):
        formats.load(source)  # before the copy, so that the error names the user's file
    with locked(_root() / ".lock"), _staging() as staged:
        _copy(source, staged)
        formats.load(staged)
        newest = max(_versions(folder), default=0)
        if version is None and newest and filecmp.cmp(staged, _file(folder, newest), False):
            return newest
        version = version or newest + 1
        with replacing(_file(folder, version)) as temporary:
            staged.rename(temporary)
    return version


def find(reference: str) -> Path:
    """The file of `name` (its newest version) or `name@vN`; NotFound says where it looked."""
    name, version = _split(reference)
    folder = _folder(name)
    versions = _versions(folder)
    if not versions:
        raise _unknown(name)
    if version is not None and version not in versions:
        have = listed([f"v{number}" for number in sorted(versions, reverse=True)])
        raise NotFound(f"{name} has no version v{version} here: there is {have}")
    return _file(folder, version or max(versions))


def entries() -> list[Entry]:
    """Every stored version, by name, the newest first."""
    found = []
    for path in [*_root().glob("*/v*.paw"), *_root().glob("*/*/v*.paw")]:
        name, match = path.parent.relative_to(_root()).as_posix(), _FILE.fullmatch(path.name)
        if match and is_name(name):
            info = path.stat()
            found.append(Entry(name, int(match[1]), info.st_size, path, info.st_mtime))
    return sorted(found, key=lambda entry: (entry.name, -entry.version))


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
        for parent in (folder, folder.parent):
            if parent != _root() and parent.exists() and not any(parent.iterdir()):
                parent.rmdir()
    return freed


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes; HubError where the disk refuses, for the block too."""
    from filelock import FileLock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path):
            yield
    except OSError as error:
        if isinstance(error, HubError):
            raise
        raise HubError(f"cannot write in {path.parent}: {error.strerror or error}") from error


def _root() -> Path:
    return settings.data_dir() / "programs"


def _folder(name: str) -> Path:
    if not is_name(name):
        raise OptionError(
            f"{name!r} cannot name a program",
            hint="Use a-z, 0-9, '.', '_' and '-', as in `triage` or `me/triage`; not .paw.",
        )
    return _root() / name


def _file(folder: Path, version: int) -> Path:
    return folder / f"v{version}.paw"


def _versions(folder: Path) -> list[int]:
    matches = [_FILE.fullmatch(path.name) for path in folder.glob("v*.paw")]
    return [int(match[1]) for match in matches if match]


def _split(reference: str) -> tuple[str, int | None]:
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise OptionError(
            f"{reference!r} does not refer to a program", hint="Write `name` or `name@v2`."
        )
    return match["name"], int(match["version"]) if match["version"] else None


def _unknown(name: str) -> NotFound:
    near = get_close_matches(name, sorted({entry.name for entry in entries()}))
    return NotFound(
        f"no program {name!r} in {_root()}",
        hint=f"Did you mean {listed(near)}?" if near else "`paw-mlx ls` lists what is there.",
    )


@contextmanager
def _staging() -> Iterator[Path]:
    # A fixed place, used under the lock: what a killed process left is swept by the next.
    folder = _root() / ".staging"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder / "program.paw"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy(source: Path | bytes, staged: Path) -> None:
    from . import formats

    if isinstance(source, bytes):
        staged.write_bytes(source)
    elif source.is_dir():
        formats.save(formats.load(source), staged, dtype=None)
    else:
        shutil.copyfile(source, staged)
