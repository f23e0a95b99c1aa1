"""Names of stored programs, and where their files lie: `programs/<name>/` in the data folder.

    v<N>.paw      a version
    .current      the version that the bare name means, where it is not the newest
    cases.jsonl   the cases kept with the name, for all its versions

A name is `name` or `user/name`; a reference may pick a version: `name@v2`.
"""

from __future__ import annotations

import re
from pathlib import Path

from . import settings
from .errors import OptionError
from .files import find_files, read_errors, replacing

CASES = "cases.jsonl"
_CURRENT = ".current"  # no program can be called that, so it is in nobody's way
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}(/[a-z0-9][a-z0-9._-]{0,99})?")
_REFERENCE = re.compile(r"(?P<name>[^@]+)(?:@v(?P<version>[1-9]\d{0,8}))?")
_FILE = re.compile(r"v([1-9]\d{0,8})\.paw")


def is_name(name: str) -> bool:
    """Return whether a program may be called that: no path, and no name that a file has."""
    files = any(part.endswith(".paw") or part == CASES for part in name.split("/"))
    return bool(_NAME.fullmatch(name)) and not files


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


def split(reference: str) -> tuple[str, int | None]:
    """Return the name and the version of a reference; OptionError if it is none."""
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise OptionError(
            f"{reference!r} does not refer to a program", hint="Write `name` or `name@v2`."
        )
    return match["name"], int(match["version"]) if match["version"] else None


def root() -> Path:
    """Return the folder of all stored programs."""
    return settings.data_dir() / "programs"


def folder_of(name: str) -> Path:
    """Return the folder of a program, there or not; OptionError for a bad name."""
    check_name(name)
    return root() / name


def file_of(folder: Path, version: int) -> Path:
    """Return the file of a version in a program's folder, there or not."""
    return folder / f"v{version}.paw"


def versions_in(folder: Path) -> list[int]:
    """Return the versions in a program's folder, in no order."""
    matches = [_FILE.fullmatch(path.name) for path in find_files(folder, "v*.paw")]
    return [int(match[1]) for match in matches if match]


def find_file(reference: str) -> Path | None:
    """Return the file of `name` (its current version) or `name@vN`; None if it is not there."""
    name, version = split(reference)
    folder = folder_of(name)
    versions = versions_in(folder)
    number = version or current_in(folder, versions)
    return file_of(folder, number) if number in versions else None


def name_of(path: Path) -> str | None:
    """Return the name under which a program's file is stored; None if it lies elsewhere."""
    path, inside = path.resolve(), root().resolve()
    if not (path.is_relative_to(inside) and _FILE.fullmatch(path.name)):
        return None
    name = path.parent.relative_to(inside).as_posix()
    return name if is_name(name) else None


def current_in(folder: Path, versions: list[int]) -> int:
    """Return which of these versions `.current` names, else the newest; 0 without any."""
    try:
        with read_errors(folder), (folder / _CURRENT).open("rb") as file:
            match = re.fullmatch(rb"v([1-9]\d{0,8})\n", file.read(12))
    except FileNotFoundError:
        match = None
    chosen = int(match[1]) if match else 0
    return chosen if chosen in versions else max(versions, default=0)


def set_current(folder: Path, version: int) -> None:
    """Write `.current`, under the lock, or remove it where the newest is meant."""
    if version == max(versions_in(folder), default=0):
        (folder / _CURRENT).unlink(missing_ok=True)
        return
    with replacing(folder / _CURRENT) as temporary:
        temporary.write_text(f"v{version}\n", encoding="ascii")
