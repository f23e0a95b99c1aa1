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
from typing import Any, TextIO

from paw_mlx.cases import json_line
from paw_mlx.errors import FormatError, HubError, OptionError

Key = tuple[str, str | None, str, str]  # method, noise, function, input
_KEY = ("method", "noise", "function", "input")
# Settings that matter to one kind of method alone; the others matter to every answer.
_MATTER_TO = {
    "steps": "tuned-",
    "fixed": "fixed",
    "baseline": "baseline",
    "compiler": "program",
    "pseudo_compiler": "program",
}


class Unkept(HubError):
    """What a study made cannot be kept: that ends it, since no other method would fare better."""


class Answers:
    """The answers in a file, found by what was asked. A context manager."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Open the file, or begin it. OptionError if it holds answers of other settings or
        another run has it open, FormatError if it is no such file, HubError if the disk
        refuses."""
        self.path = path
        self._settings: dict[str, Any] = {}
        self._answers: dict[Key, dict[str, Any]] = {}
        self._seconds: dict[str, float] = {}
        self._file = _opened(path)
        try:
            self._read()
            self._check(settings)
            merged = self._settings | {k: v for k, v in settings.items() if v is not None}
            if merged != self._settings:
                self._write({"settings": merged})
        except BaseException:
            self.close()
            raise

    @property
    def folder(self) -> Path:
        """Where programs are kept."""
        return self.path.with_suffix(".programs")

    def find(
        self, method: str, noise: str | None, function: str, text: str
    ) -> dict[str, Any] | None:
        """The record of an answer, or None."""
        return self._answers.get((method, noise, function, text))

    def add(self, record: dict[str, Any]) -> None:
        """Keep an answer. Unkept if the disk refuses."""
        self._write(record)
        self._answers[_key(record)] = record

    def program(self, name: str) -> Path | None:
        """The file of a program that was made and kept, or None."""
        path = self.folder / name
        return path if name in self._seconds and path.exists() else None

    def add_program(self, name: str, seconds: float) -> None:
        """Remember that a program was made; its file is in the folder."""
        self._write({"program": name, "seconds": seconds})
        self._seconds[name] = seconds

    def seconds(self, name: str) -> float:
        """What it took to make a program, 0 for one that was not."""
        return self._seconds.get(name, 0.0)

    def close(self) -> None:
        """Close the file, and let others have it."""
        with suppress(OSError):  # each line was flushed; what the disk refused it refuses again
            self._file.close()

    def __len__(self) -> int:
        return len(self._answers)

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _read(self) -> None:
        try:
            data = self.path.read_bytes() if self.path.exists() else b""
            whole = data[: data.rfind(b"\n") + 1]
            if whole != data:
                with self.path.open("r+b") as file:
                    file.truncate(len(whole))
        except OSError as error:
            raise HubError(f"cannot read {self.path}: {error.strerror}") from error
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
            self._seconds[record["program"]] = float(record["seconds"])
        else:
            _ = record["correct"]
            self._answers[_key(record)] = record

    def _check(self, settings: Mapping[str, Any]) -> None:
        """Refuse settings that differ from the file's. What it does not say may be added, if it
        holds no answer to which that matters."""
        if (self._answers or self._seconds) and not self._settings:
            raise FormatError(f"{self.path} holds answers and does not say of which settings")
        other = [
            f"{key} {'unknown' if (held := self._settings.get(key)) is None else held}, not {value}"
            for key, value in settings.items()
            if value is not None and not self._agrees(key, value)
        ]
        if other:
            raise OptionError(
                f"{self.path} holds answers of other settings: {'; '.join(other)}",
                hint="Name another file with --answers, or take the same settings.",
            )

    def _agrees(self, key: str, value: Any) -> bool:
        held, methods = self._settings.get(key), _MATTER_TO.get(key, "")
        if held is not None:
            return bool(held == value)
        return not any(method.startswith(methods) for method, *_ in self._answers)

    def _write(self, record: Mapping[str, Any]) -> None:
        try:
            self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise Unkept(f"cannot write {self.path}: {error.strerror}") from error


def _opened(path: Path) -> TextIO:
    """The file, to append to, locked until it is closed."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise HubError(f"cannot write {path}: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise OptionError(
            f"another run has {path} open",
            hint="Wait for its end, or name another file with --answers.",
        ) from error
    except OSError as error:
        file.close()
        raise HubError(f"cannot lock {path}: {error.strerror}") from error
    return file


def _key(record: Mapping[str, Any]) -> Key:
    method, noise, function, text = (record[key] for key in _KEY)
    return method, noise, function, text
