"""The bytes of a program, as the daemon gets them: by a key that changes when they do."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from ..files import scratch
from ..program import Program
from .stamps import file_key, read_file


@dataclass(frozen=True)
class Contents:
    """Where the bytes are: a `.paw` file, as it was when its `key` was made; or else in memory."""

    key: str
    path: Path | None = None

    @classmethod
    def of_file(cls, path: Path) -> Contents:
        """Take a program's file. OSError if it is not there."""
        return cls(file_key(path), path)

    @classmethod
    def of(cls, program: Program) -> Contents:
        """Take a program that is in memory."""
        meta = json.dumps([program.spec, dict(program.meta)], sort_keys=True, default=str)
        digest = hashlib.sha256(f"{program.digest(typed=False)} {meta}".encode())
        return cls(f"program-{digest.hexdigest()[:32]}")

    def read(self, program: Program) -> bytes:
        """Return the bytes. DiskError if the file was replaced meanwhile, or may not be read;
        OptionError for a program that no file holds."""
        if self.path is None:
            from .. import formats

            with scratch() as folder:
                path = folder / "program.paw"
                formats.save(program, path, dtype=None)
                return path.read_bytes()
        return read_file(self.path, self.key)
