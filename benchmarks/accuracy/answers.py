"""Every answer of a study, kept as it comes, so that what was interrupted can go on.

A JSONL file. Its first line holds the settings; a study with others is refused, since its
answers would not be comparable. A line that an interrupt cut short is dropped. The file is locked
while it is open: two runs on one would spoil it.

    {"settings": {...}}
    {"program": name, "seconds"}      a program that was made; it lies in a folder beside the file
    {"method", "noise", "function", "input", "expected", "answer", "correct"}
                                      "error" too, and no answer, where one failed
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from paw_mlx.errors import DiskError, FormatError, OptionError
from paw_mlx.files import disk_errors
from paw_mlx.rows.jsonl import json_line

Key = tuple[str, str | None, str, str]
_KEY = ("method", "noise", "function", "input")
# Settings that matter to one kind of method alone; the others matter to every answer.
_MATTER_TO = {
    "steps": "tuned-",
    "fixed": "fixed",
    "baseline": "baseline",
    "compiler": "program",
    "pseudo_compiler": "program",
}


class Unkept(DiskError):
    """What a study made cannot be kept: that ends it, since no other method would fare better."""


class Answers:
    """The answers in a file, found by what was asked. A context manager."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Open the file, or begin it. OptionError if it holds answers of other settings or
        another run has it open, FormatError if it is no such file, DiskError if the disk
        refuses."""
        self.path, self.folder = path, path.with_suffix(".programs")
        self._settings: dict[str, Any] = {}
        self.records: dict[Key, dict[str, Any]] = {}  # of the answers
        self.seconds: dict[str, float] = {}  # that it took to make each program
        with disk_errors(f"write {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8", errors="backslashreplace")
        try:
            self._lock()
            self._read()
            self._check(settings)
            merged = self._settings | {k: v for k, v in settings.items() if v is not None}
            if merged != self._settings:
                self._write({"settings": merged})
        except BaseException:
            self.close()
            raise

    def add(self, record: dict[str, Any]) -> None:
        """Keep an answer, or that a program was made. Unkept if the disk refuses."""
        self._write(record)
        self._take(record)

    def program(self, name: str) -> Path | None:
        """Return the file of a program that was made and kept, or None."""
        path = self.folder / name
        return path if name in self.seconds and path.exists() else None

    def close(self) -> None:
        """Close the file, and let others have it."""
        with suppress(OSError):  # each line was flushed; what the disk refused it refuses again
            self._file.close()

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _lock(self) -> None:
        try:
            with disk_errors(f"lock {self.path}"):
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except DiskError as error:
            if not isinstance(error.__cause__, BlockingIOError):
                raise
            raise OptionError(
                f"another run has {self.path} open",
                hint="Wait for its end, or name another file with --answers.",
            ) from error

    def _read(self) -> None:
        with disk_errors(f"read {self.path}"):
            data = self.path.read_bytes()
            whole = data[: data.rfind(b"\n") + 1]
            if whole != data:
                with self.path.open("r+b") as file:
                    file.truncate(len(whole))
        for number, line in enumerate(whole.decode("utf-8", "replace").split("\n")[:-1], 1):
            record = json_line(self.path, number, line)
            try:
                self._take(record)
            except (KeyError, TypeError, AttributeError) as error:
                raise FormatError(f"{self.path}, line {number}: no answer of a study") from error

    def _take(self, record: dict[str, Any]) -> None:
        if "settings" in record:
            self._settings = dict(record["settings"])
        elif "program" in record:
            self.seconds[record["program"]] = float(record["seconds"])
        else:
            method, noise, function, text, _ = (record[key] for key in (*_KEY, "correct"))
            self.records[method, noise, function, text] = record

    def _check(self, settings: Mapping[str, Any]) -> None:
        """Refuse settings that differ from the file's. What it does not say may be added, if it
        holds no answer to which that matters."""
        if (self.records or self.seconds) and not self._settings:
            raise FormatError(f"{self.path} holds answers and does not say of which settings")
        other = []
        for key, value in settings.items():
            held, methods = self._settings.get(key), _MATTER_TO.get(key, "")
            matters = any(method.startswith(methods) for method, *_ in self.records)
            if value is not None and held != value and (held is not None or matters):
                other.append(f"{key} {'unknown' if held is None else held}, not {value}")
        if other:
            raise OptionError(
                f"{self.path} holds answers of other settings: {'; '.join(other)}",
                hint="Name another file with --answers, or take the same settings.",
            )

    def _write(self, record: Mapping[str, Any]) -> None:
        try:
            self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise Unkept(f"cannot write {self.path}: {error.strerror}") from error
