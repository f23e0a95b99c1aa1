"""Programs on their way to a cluster: as the bytes of their files, once."""

from __future__ import annotations

import hashlib
from os import PathLike
from typing import Any

from ...client.connection import load_program
from ...client.contents import Contents
from ...program import Program
from ...progress import Progress, quiet
from .cluster import library


class Programs:
    """Loads programs here, and puts each into the cluster's store; a node fetches it from there."""

    def __init__(self) -> None:
        self._files: list[tuple[Program, Contents]] = []
        self._data: dict[str, Any] = {}  # by their digests, Ray's references

    def load(
        self,
        program: str | PathLike[str] | Program,
        *,
        offline: bool = False,
        progress: Progress = quiet,
    ) -> Program:
        """Return a program; of a path, a name in the store or a hub reference, as it is now."""
        made, contents = load_program(program, offline, progress)
        if contents:
            self._files.append((made, contents))
        return made

    def put(self, program: Program) -> tuple[str, Any]:
        """Return a digest of a program's bytes, and Ray's reference to them.

        One of another type of outputs has the same. DiskError if its file was replaced meanwhile;
        OptionError for one in memory that no file holds.
        """
        alike = (contents for one, contents in self._files if one.is_typed(program))
        data = (next(alike, None) or Contents.of(program)).read(program)
        key = hashlib.sha256(data).hexdigest()[:32]
        if key not in self._data:
            self._data[key] = library().put(data)
        return key, self._data[key]
