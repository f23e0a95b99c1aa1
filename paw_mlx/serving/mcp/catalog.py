"""Which stored functions agents are offered, looked up again only when the store has changed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ... import formats, store
from ...errors import PawError
from ...output import Output
from ...program_names import root, split
from ...progress import Progress, quiet
from ...store import StoredVersion


@dataclass(frozen=True)
class Offer:
    """A stored function as its reference, `name` or `name@vN`, has it now."""

    reference: str
    stored: StoredVersion
    spec: str
    output: Output
    interpreter: str
    program_id: str


class Catalog:
    """The functions that are offered: all by their bare names, or `only` some references.

    NotFound, or OptionError, for one of them that is not there at the start; one that goes away
    later is offered no more. `progress` hears, once, of programs that cannot be read. Safe from any
    thread.
    """

    def __init__(self, only: Sequence[str] = (), progress: Progress = quiet) -> None:
        for reference in only:
            store.find(reference)
        self._only, self._progress = list(dict.fromkeys(only)), progress
        self._limited = bool(only)
        self._lock = threading.Lock()
        self._known: tuple[object, list[Offer]] | None = None
        self._read: dict[tuple[Path, int, float], tuple[str, Output, str, str] | None] = {}

    def stamp(self) -> object:
        """Return what changes whenever the store does: a few calls of `stat` for each name."""
        return tuple(_stamps(root())) + tuple(self._only)

    def offers(self) -> list[Offer]:
        """Return the functions that are offered, by reference."""
        with self._lock:
            stamp = self.stamp()
            if self._known is None or self._known[0] != stamp:
                self._known = stamp, self._look()
            return self._known[1]

    def allows(self, name: str) -> bool:
        """Whether a name is one of those offered, or free to be taken."""
        mine = not self._limited or any(split(one)[0] == name for one in self._only)
        return mine or all(entry.name != name for entry in store.entries())

    def include(self, name: str) -> None:
        """Offer a name, too, where only some are offered."""
        with self._lock:
            if self._limited and name not in self._only:
                self._only.append(name)

    def versions(self, name: str) -> list[dict[str, Any]]:
        """Return the versions of a name as JSON has them, the newest first."""
        keys = ("version", "bytes", "modified", "current")
        found = (asdict(entry) for entry in store.entries() if entry.name == name)
        return [{key: entry[key] for key in keys} for entry in found]

    def _look(self) -> list[Offer]:
        entries = store.entries(self._progress)
        if self._limited:
            by_version = {f"{entry.name}@v{entry.version}": entry for entry in entries}
            current = {entry.name: entry for entry in entries if entry.current}
            chosen = {one: (by_version | current).get(one) for one in self._only}
        else:
            chosen = {entry.name: entry for entry in entries if entry.current}
        found = (self._offer(reference, entry) for reference, entry in chosen.items() if entry)
        return sorted(filter(None, found), key=lambda offer: offer.reference)

    def _offer(self, reference: str, entry: StoredVersion) -> Offer | None:
        """Read what an agent is told of a program; None, with a word, if it cannot be read."""
        key = (entry.path, entry.bytes, entry.modified)
        if key not in self._read:
            self._read[key] = None
            try:
                program = formats.load(entry.path)
                told = (program.spec, program.output, program.interpreter, program.id)
                self._read[key] = told
            except PawError as error:
                self._progress(f"{reference} is not offered: {error}")
        read = self._read[key]
        return read and Offer(reference, entry, *read)


def _stamps(folder: Path, depth: int = 2) -> Iterator[tuple[str, int]]:
    """Yield the folders from here to the programs', and when a file came or went in each."""
    with suppress(OSError):
        yield str(folder), folder.stat().st_mtime_ns
        if depth:
            with os.scandir(folder) as inside:
                for entry in sorted(inside, key=lambda entry: entry.name):
                    if entry.is_dir() and not entry.name.startswith("."):
                        yield from _stamps(Path(entry.path), depth - 1)
