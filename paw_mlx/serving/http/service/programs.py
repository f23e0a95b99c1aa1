"""The stored programs as the service knows them: by ids that mean the same bytes for ever.

The SDK keeps what it fetched under its id and never asks again, so an id is a hash of the stored
file, and of nothing that a server may change. What is sent carries that id in its meta.json,
whatever the file says of itself.
"""

from __future__ import annotations

import hashlib
import re
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .... import formats, program_names, store
from ....errors import NotFound, PawError
from ....files import read_errors
from ....output import Labels, Output
from ....runtimes import runtime_id_of, with_runtime
from ..errors import Refused

_PACKING = b"paw-mlx 1\0"  # how files become what is sent; another way of it gives other ids
_ID = re.compile(r"[a-f0-9]{16,64}")
_MAX_FACTS = 4096
_Stamp = tuple[str, int, int, int]


@dataclass(frozen=True)
class Served:
    """One version of a stored program. `modified` is in seconds since 1970."""

    id: str
    name: str
    version: int
    current: bool
    path: Path
    modified: float
    bytes: int

    @property
    def reference(self) -> str:
        """What the store calls it."""
        return f"{self.name}@v{self.version}"


@dataclass(frozen=True)
class Facts:
    """What a program's file says of it."""

    spec: str
    interpreter: str
    output: Output
    meta: dict[str, Any]

    @property
    def runtime_id(self) -> str | None:
        """What the SDK runs it on: what the file says, else what its base has."""
        return self.meta.get("runtime_id") or runtime_id_of(self.interpreter)

    def was_made(self, spec: str, output: Output, compiler_fingerprint: str) -> bool:
        """Whether this compiler made it of this spec, and nobody changed it since."""
        kinds = [
            one.labels if isinstance(one, Labels) else one.record() for one in (self.output, output)
        ]
        return (
            self.spec == spec
            and kinds[0] == kinds[1]
            and self.meta.get("compiler_kind") == "mapper_lora"
            and self.meta.get("compiler_fingerprint") == compiler_fingerprint
            and self.meta.get("paw_mlx", {}).get("pseudo_program") == "written"
        )


class Programs:
    """Finds stored programs by id, name or `name@vN`. Safe from any thread."""

    def __init__(self) -> None:
        self._ids: dict[_Stamp, str] = {}
        self._found: dict[str, tuple[_Stamp, Served]] = {}
        self._facts: dict[str, Facts] = {}
        self._lock = threading.Lock()

    def find(self, reference: str) -> Served:
        """Return the program of an id, a name or `name@vN`; 404 as the SDK understands it."""
        if _ID.fullmatch(reference) and (served := self._by_id(reference)):
            return served
        if store.is_reference(reference):
            name, version = program_names.split(reference)
            for served in self.versions(name):
                if served.version == version if version else served.current:
                    return served
        raise not_found(reference)

    def versions(self, name: str) -> list[Served]:
        """Return the versions of a name, the newest first."""
        return [self._serve(entry) for entry in store.entries() if entry.name == name]

    def current(self) -> list[Served]:
        """Return what every name means now, the latest first."""
        entries = sorted((e for e in store.entries() if e.current), key=lambda e: -e.modified)
        return [self._serve(entry) for entry in entries]

    def facts(self, served: Served) -> Facts:
        """Return what a program's file says; it is read once. FormatError for a damaged one."""
        with self._lock:
            known = self._facts.get(served.id)
        if known is None:
            program = formats.load(served.path)
            known = Facts(program.spec, program.interpreter, program.output, dict(program.meta))
            with self._lock:
                self._facts[served.id] = known
                while len(self._facts) > _MAX_FACTS:
                    del self._facts[next(iter(self._facts))]
        return known

    def sound_facts(self, served: Served) -> Facts | None:
        """Return what a program's file says; None for a damaged one, or one that is gone."""
        try:
            return self.facts(served)
        except PawError:
            return None

    def made(self, spec: str, output: Output, compiler_fingerprint: str) -> Served | None:
        """Return a program that a compiler made of a spec before, if it is still here."""
        for served in self.current():
            facts = self.sound_facts(served)
            if facts and facts.was_made(spec, output, compiler_fingerprint):
                return served
        return None

    def write(self, served: Served, path: Path) -> None:
        """Write what is sent of a program: a `.paw` whose meta.json carries its id.

        FormatError for a damaged one, DiskError for the disk, 404 if it has changed by now.
        """
        program = formats.load(served.path)
        meta = with_runtime(program.meta, program.interpreter) | {"program_id": served.id}
        if formats.sniff(served.path) == "paw":
            formats.replace_meta(served.path, meta, path)
        else:
            formats.save(replace(program, meta=meta), path, dtype=None)
        if self._id_of(served.path) != served.id:
            raise not_found(served.id)

    def _by_id(self, program_id: str) -> Served | None:
        """Return the program of an id, if its bytes are still here: looked up, else searched."""
        if served := self._unchanged(program_id):
            return served
        for entry in store.entries():
            self._serve(entry)
        return self._unchanged(program_id)

    def _unchanged(self, program_id: str) -> Served | None:
        with self._lock:
            stamp, served = self._found.get(program_id, (None, None))
        with suppress(NotFound):
            if served and _stamp(served.path) == stamp:
                return served
        return None

    def _serve(self, entry: store.StoredVersion) -> Served:
        program_id = self._id_of(entry.path)
        served = Served(
            program_id,
            entry.name,
            entry.version,
            entry.current,
            entry.path,
            entry.modified,
            entry.bytes,
        )
        with self._lock:
            self._found[program_id] = (_stamp(entry.path), served)
        return served

    def _id_of(self, path: Path) -> str:
        stamp = _stamp(path)
        with self._lock:
            known = self._ids.get(stamp)
        if known is None:
            digest = hashlib.sha256(_PACKING)
            with read_errors(path), path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
            known = digest.hexdigest()[:32]
            with self._lock:
                self._ids[stamp] = known
        return known


def not_found(reference: str) -> Refused:
    """Return the one answer that tells the SDK not to ask again."""
    return Refused(
        404,
        "not_found",
        f"Program not found: {reference[:200]!r}",
        hint="`paw-mlx ls` lists the programs that are here.",
    )


def _stamp(path: Path) -> _Stamp:
    try:
        info = path.stat()
    except FileNotFoundError as error:
        raise NotFound(f"{path.parent.name} is gone") from error
    return str(path), info.st_ino, info.st_size, info.st_mtime_ns
