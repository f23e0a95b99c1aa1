"""A file of pairs that grows line by line, and what has to be known to go on after a kill.

    PAIRS.jsonl              a pair a line; the truth of what is kept
    PAIRS.jsonl.state.json   the terms, the rounds that are done, what they dropped; replaced whole

A line that a kill cut is dropped. Lines beyond those of finished rounds are of the round that was
interrupted: it is done again, and finds them kept.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ..cases import Case
from ..errors import FormatError, OptionError
from ..files import disk_errors, replacing
from ..formats.untrusted import json_object, read_bytes
from ..locks import lock, unlock
from ..rows.jsonl import dumps

_MAX_STATE_BYTES = 1 << 22


@dataclass
class State:
    """How far it is: finished rounds, the lines they left, what they asked and dropped."""

    rounds: int = 0
    lines: int = 0
    questions: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    topics: list[str] | None = None


class PairsFile:
    """A file of pairs, open and locked; `pairs` are those that it holds."""

    def __init__(self, path: Path, file: BinaryIO, state: State, terms: Mapping[str, Any]) -> None:
        self.path, self.state = path, state
        self._file, self._terms = file, terms
        self.pairs: list[Case] = []

    @classmethod
    @contextmanager
    def open(cls, path: Path, terms: Mapping[str, Any]) -> Iterator[PairsFile]:
        """Open a file, to go on with it where it was begun on the same terms.

        OptionError if it was not, if it is someone else's, or if another process has it;
        FormatError for a damaged one, DiskError for the disk.
        """
        with disk_errors(f"write {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+b")
            try:
                try:
                    lock(file, path, wait=False)
                except BlockingIOError as error:
                    raise OptionError(f"another process is writing {path}") from error
                opened = cls(path, file, _read_state(path, file, terms), terms)
                opened._read()
                yield opened
            finally:
                unlock(file)

    def add(self, text: str, output: str) -> None:
        """Append a pair."""
        line = dumps({"input": text, "output": output}) + "\n"
        with disk_errors(f"write {self.path}"):
            self._file.write(line.encode())
            self._file.flush()
        self.pairs.append(Case(text, output))

    def save(self) -> None:
        """Write the state, the lines on disk before it."""
        with disk_errors(f"write {self.path}"):
            os.fsync(self._file.fileno())
        record = {"terms": self._terms, **vars(self.state)}
        with replacing(_state_of(self.path)) as temporary:
            temporary.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")

    def _read(self) -> None:
        """Read the pairs, and cut off a line that has no end."""
        self._file.seek(0)
        data = self._file.read()
        end = data.rfind(b"\n") + 1
        if end < len(data):
            self._file.truncate(end)
        for number, line in enumerate(data[:end].splitlines(), 1):
            try:
                row = json.loads(line)
                self.pairs.append(Case(str(row["input"]), str(row["output"])))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise FormatError(f"{self.path}, line {number}: no pair ({error})") from error
        if len(self.pairs) < self.state.lines:
            raise FormatError(
                f"{self.path} holds {len(self.pairs):,} pairs, and {self.state.lines:,} were "
                "written to it",
                hint=f"Remove it, and {_state_of(self.path).name}, to begin anew.",
            )


def _state_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.state.json")


def _read_state(path: Path, file: BinaryIO, terms: Mapping[str, Any]) -> State:
    """Read how far a file is; OptionError if it was begun otherwise, or not by us."""
    record = _state_of(path)
    if not record.exists():
        if file.seek(0, os.SEEK_END):
            raise OptionError(
                f"{path} is there, and no teaching wrote it: {record.name} is missing",
                hint="Name another file, or teach from it: --teacher FILE.",
            )
        with replacing(record) as temporary:
            temporary.write_text(json.dumps({"terms": terms}) + "\n", encoding="utf-8")
        return State()
    kept = json_object(read_bytes(record, _MAX_STATE_BYTES), record.name)
    before = kept.get("terms")
    if before != terms:
        known = before if isinstance(before, dict) else {}
        changed = [name for name in terms if known.get(name) != terms[name]]
        raise OptionError(
            f"{path} was begun on other terms: "
            + "; ".join(f"{name} was {known.get(name)!r}, not {terms[name]!r}" for name in changed),
            hint="Name another file, or remove this one and its state.",
        )
    try:
        return State(
            int(kept.get("rounds", 0)),
            int(kept.get("lines", 0)),
            int(kept.get("questions", 0)),
            Counter({str(why): int(num) for why, num in kept.get("dropped", {}).items()}),
            kept.get("topics"),
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise FormatError(f"{record} is damaged: {error}") from error
