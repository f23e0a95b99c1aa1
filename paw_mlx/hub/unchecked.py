"""What came into the hub's cache and was not yet held against its hashes.

A pull writes a mark into the repo's folder in the cache before anything comes, and removes it when
all is checked: what a killed pull left is known by it. The mark lies beside what it is about, and
not in our own home, so that all homes that share a cache find it, and a home that cannot be written
is no reason to go without. It lists what was there before, which stays in use.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..files import find_files, read_errors, replacing
from ..locks import lock, unlock

_MARK = ".paw-mlx-unchecked"
_Stamp = tuple[int, int, int]  # of a file: its inode, when it was written, and its bytes


def is_unchecked(folder: Path, files: Iterable[Path]) -> bool:
    """Return whether one of these files of a repo's folder came, and was not checked since.

    DiskError if one may not look.
    """
    before = _read_mark(folder)
    return before is not None and not _stamps(files) <= before


@contextmanager
def arriving(folder: Path, sweep: Callable[[list[Path]], object]) -> Iterator[None]:
    """Mark what comes into a repo's folder as unchecked, until the block ends well.

    Whoever else pulls the same repo waits. First, where a pull was killed, `sweep` gets the files
    that it left, to remove what is damaged or cut short. OSError or DiskError of the cache's disk.
    """
    place = folder.parent / ".locks" / folder.name / "paw-mlx.lock"  # beside huggingface_hub's
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("ab") as file:
        lock(file, place)
        try:
            before = _read_mark(folder)
            # Written again, too: that sweeps what a killed write of it left.
            _write_mark(folder, _stamps(_find_files(folder)) if before is None else before)
            if before is not None:
                sweep(_find_unchecked(folder))
            try:
                yield
            except BaseException:
                if not _find_unchecked(folder):
                    _remove_mark(folder)
                raise
            _remove_mark(folder)
        finally:
            unlock(file)


def _find_unchecked(folder: Path) -> list[Path]:
    before = _read_mark(folder) or set()
    return [file for file in _find_files(folder) if not _stamps([file]) <= before]


def _find_files(folder: Path) -> list[Path]:
    """Return the blobs, and files of snapshots where a disk has no links."""
    blobs = [path for path in find_files(folder / "blobs", "*") if path.suffix != ".incomplete"]
    snapshots = find_files(folder / "snapshots", "*", below=True)
    return blobs + [path for path in snapshots if not path.is_symlink()]


def _stamps(files: Iterable[Path]) -> set[_Stamp]:
    """Return the stamps of files, through links; none of what is not there."""
    found = set()
    for file in files:
        with read_errors(file), suppress(FileNotFoundError):
            info = file.stat()
            found.add((info.st_ino, info.st_mtime_ns, info.st_size))
    return found


def _write_mark(folder: Path, before: set[_Stamp]) -> None:
    with replacing(folder / _MARK) as path:
        path.write_text(json.dumps({"there before": sorted(before)}))


def _read_mark(folder: Path) -> set[_Stamp] | None:
    """Return the stamps of what was there before; None without a mark, nothing of a damaged one."""
    mark = folder / _MARK
    try:
        with read_errors(mark):
            written = json.loads(mark.read_bytes())["there before"]
        return {tuple(stamp) for stamp in written}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError):
        return set()


def _remove_mark(folder: Path) -> None:
    (folder / _MARK).unlink(missing_ok=True)
    with suppress(OSError):  # there is more in it
        folder.rmdir()
