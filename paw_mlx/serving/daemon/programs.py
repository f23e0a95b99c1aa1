"""The programs that clients have put, by their keys; the least recently used leave first."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ... import formats
from ...files import disk_errors, replacing
from ...output import read_record
from ...program import Program

_MAX_FILES = 64
_MAX_TYPED = 256  # programs with other types of output than their own
_MAX_BYTES = 1 << 30


class Programs:
    """Files of programs in a folder, and what was read of them. Safe from any thread.

    What lies in the folder before is removed: a killed daemon left it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        self._files: OrderedDict[str, int] = OrderedDict()  # key -> bytes
        self._read: dict[str, Program] = {}
        self._typed: OrderedDict[tuple[str, str], Program] = OrderedDict()  # key, type of output
        self._lock = threading.Lock()

    def put(self, key: str, data: bytes) -> None:
        """Keep the bytes of a program. FormatError for what is none, DiskError for the disk."""
        path = self._file(key)
        with replacing(path) as temporary:
            temporary.write_bytes(data)
            program = formats.load(temporary)
        with self._lock:
            self._files[key] = len(data)
            self._files.move_to_end(key)
            self._read[key] = program
            self._shrink()

    def get(self, key: str, output: Mapping[str, Any] | None) -> Program | None:
        """Return a program with that type of output (None: its own); None if it was not put.

        FormatError for what is no type.
        """
        with self._lock:
            if key not in self._files:
                return None
            self._files.move_to_end(key)
            own = self._read[key]
        if output is None or output == own.output.record():
            return own
        typed = own.typed(read_record(output))
        kind = key, json.dumps(typed.output.record(), sort_keys=True)
        with self._lock:
            found = self._typed.setdefault(kind, typed)
            self._typed.move_to_end(kind)
            if len(self._typed) > _MAX_TYPED:
                self._typed.popitem(last=False)
            return found

    def clear(self) -> None:
        """Remove all files."""
        with self._lock:
            self._files.clear()
            self._read.clear()
            self._typed.clear()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _shrink(self) -> None:
        while len(self._files) > _MAX_FILES or (
            sum(self._files.values()) > _MAX_BYTES and len(self._files) > 1
        ):
            self._remove(next(iter(self._files)))

    def _remove(self, key: str) -> None:
        del self._files[key]
        del self._read[key]
        for kept in [kept for kept in self._typed if kept[0] == key]:
            del self._typed[kept]
        with disk_errors(f"remove {self._file(key)}"):
            self._file(key).unlink(missing_ok=True)

    def _file(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.paw"
