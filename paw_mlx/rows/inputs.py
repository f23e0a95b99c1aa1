"""Which files a user means: those that are named, all of a folder, or those of a pattern."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from ..errors import NotFound, OptionError
from ..files import exists, find_files, is_litter
from .suffixes import format_of, is_log
from .target import Target, path_of, side_of


def find_inputs(
    places: Sequence[str | Path], *, format: str | None = None, output: Target | None = None
) -> list[Path]:
    """Return the files that are meant, in the order of the places; a folder's are sorted.

    Of a folder, those below it whose names tell a format, or if one is named, that one or none.
    What is hidden, begins with `_`, or is a part of an unfinished output is nobody's input.
    NotFound for a folder or a pattern without files; OptionError for a file that is meant twice,
    and for an `output` in a folder that is read.
    """
    found: list[Path] = []
    for place in places:
        path = Path(place)
        if exists(path):
            found += _files_below(path, format, output) if path.is_dir() else [path]
        elif glob.has_magic(str(place)):
            found += _matching(str(place))
        else:
            found.append(path)
    seen: dict[str, Path] = {}
    for path in found:
        if (other := seen.setdefault(os.path.realpath(path), path)) is not path:
            also = "" if path == other else f", also as {other}"
            raise OptionError(f"{path} is named twice{also}: its rows would be, too")
    return found


def _files_below(folder: Path, format: str | None, output: Target | None) -> list[Path]:
    if output and path_of(output).resolve().is_relative_to(folder.resolve()):
        raise OptionError(
            f"{output} lies in {folder}, which is read: the next run would read it, too",
            hint="Write it elsewhere, or name the files of the folder by a pattern.",
        )
    found = [path for path in find_files(folder, "*", below=True) if _is_rows(path, folder, format)]
    if not found:
        what = f"of {format} " if format else ""
        raise NotFound(
            f"{folder} holds no files of rows {what}".rstrip(),
            hint=f"They are known by their suffixes; name others by a pattern: '{folder}/*'.",
        )
    return found


def _is_rows(path: Path, folder: Path, format: str | None) -> bool:
    """Return whether a file of a folder is one of rows, of a format if one is named."""
    if is_litter(path.name) or _is_part(path) or _marked(path.relative_to(folder)):
        return False
    try:
        told = format_of(path) or ("lines" if is_log(path) else None)
    except OptionError:
        return False
    return told in (format, None) if format else told is not None


def _matching(pattern: str) -> list[Path]:
    """Return the files of a pattern, sorted; what begins with `_` only where the pattern does."""
    marked = _marked(Path(pattern))
    found = sorted(map(Path, glob.glob(pattern, recursive=True)))  # noqa: PTH207 (absolute, too)
    found = [
        path
        for path in found
        if path.is_file()
        and not _is_part(path)
        and all(any(fnmatchcase(name, mark) for mark in marked) for name in _marked(path))
    ]
    if not found:
        raise NotFound(f"no file matches {pattern}")
    return found


def _marked(path: Path) -> list[str]:
    """Return the names in a path that begin as those do that nobody means."""
    return [name for name in path.parts if name.startswith("_")]


def _is_part(path: Path) -> bool:
    """Return whether a file is OUT.part or OUT.part.json of an output that is not done."""
    if path.suffix == ".part":
        return side_of(path).exists()
    return path.name.endswith(".part.json") and path.with_suffix("").exists()
