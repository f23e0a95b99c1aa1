"""What was installed: `mac/register.json` in the data folder, written as a whole, under a lock.

Of each file that was written it has the hash, so that what was changed by hand since is known. It
is written before the files are, with the hashes of the old ones beside: after a kill between the
two, either is known as ours.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import FormatError
from ..files import read_errors, replacing
from ..locks import locked
from .plan import own_folder

_MAX_BYTES = 1 << 24


@dataclass(frozen=True)
class Entry:
    """A function that was installed as a kind.

    `place` is the file or folder; `files` has the SHA-256 that each file may have, by its whole
    path; `folders` are those that were made for it, the outermost first. `log` is what it writes.
    `called`: whether macOS was told of it. `folder` is the one that a folder action is bound to.
    """

    reference: str
    kind: str
    title: str
    place: str
    files: dict[str, tuple[str, ...]]
    folders: tuple[str, ...] = ()
    log: str | None = None
    folder: str | None = None
    called: bool = False

    def changed(self) -> list[Path]:
        """Return the files that are no longer as they were written, and those that came since.

        DiskError for what one may not read.
        """
        ours = {Path(path) for path in self.files}
        if Path(self.place).is_symlink():
            return [Path(self.place)]
        changed = [
            path
            for path in sorted(ours)
            if (digest := digest_of(path)) and digest not in self.files[str(path)]
        ]
        return changed + sorted(set(self.inside()) - ours)

    def inside(self) -> list[Path]:
        """Return all that lies in the place but folders, if it is one; links are not followed.

        DiskError for a folder one may not read.
        """
        place, found = Path(self.place), list[Path]()
        with read_errors(place):
            for root, folders, names in os.walk(place) if not place.is_symlink() else ():
                links = [name for name in folders if Path(root, name).is_symlink()]
                found += [Path(root, name) for name in (*names, *links)]
        return found

    def missing(self) -> list[Path]:
        """Return the files that are gone."""
        return [path for path in map(Path, self.files) if digest_of(path) is None]


def entries() -> list[Entry]:
    """Return all that is installed, in the order of names; FormatError if the file is damaged."""
    file = own_folder() / "register.json"
    try:
        with read_errors(file), file.open("rb") as opened:
            records = json.loads(opened.read(_MAX_BYTES))["installed"]
        found = [_entry(record) for record in records]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FormatError(
            f"{file} is damaged: {error}",
            hint="It says what `paw-mlx mac install` wrote: keep a copy before you remove it.",
        ) from error
    return sorted(found, key=lambda entry: (entry.reference, entry.kind))


@contextmanager
def changing() -> Iterator[list[Entry]]:
    """Hold the register's lock, and give what is in it."""
    with locked(own_folder() / ".lock"):
        yield entries()


def write(found: Sequence[Entry]) -> None:
    """Write all that is installed; under the lock. DiskError if the disk refuses."""
    file = own_folder() / "register.json"
    with replacing(file) as temporary:
        record = {"installed": [asdict(entry) for entry in found]}
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def digest_of(path: Path) -> str | None:
    """Return the SHA-256 of a file; None where there is none, `link` or `folder` for another."""
    with read_errors(path):
        try:
            if path.is_symlink():
                return "link"
            return sha256(path.read_bytes())
        except IsADirectoryError:
            return "folder"
        except (FileNotFoundError, NotADirectoryError):
            return None


def sha256(data: bytes) -> str:
    """Return the SHA-256 of some bytes, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _entry(record: dict[str, object]) -> Entry:
    """Return an entry of a record; TypeError or ValueError for one that is none."""
    entry = Entry(**record)  # type: ignore[arg-type]
    texts = [entry.reference, entry.kind, entry.title, entry.place, *entry.folders, *entry.files]
    if not all(isinstance(each, str) for each in texts):
        raise ValueError(f"{entry.reference!r} has other values than texts")
    if not all(Path(path).is_relative_to(Path(entry.place).parent) for path in entry.files):
        raise ValueError(f"the files of {entry.reference!r} lie elsewhere than {entry.place}")
    if entry.log and not Path(entry.log).is_relative_to(own_folder()):
        raise ValueError(f"{entry.reference!r} logs elsewhere: {entry.log}")
    return entry
