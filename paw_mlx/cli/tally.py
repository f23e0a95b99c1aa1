"""What a run over many rows has come to, on stderr: while it runs, and when it ends."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import PawError
from . import error_record
from .common import say

if TYPE_CHECKING:
    from ..interpreter.mapping import Outcome

_EVERY_S = 0.2


class Tally:
    """Counts of rows, or what they are called; a line that is drawn anew, if `live`.

    `total` says how many there will be, as far as is known.
    """

    def __init__(
        self, noun: str, live: bool, total: Callable[[], int | None] = lambda: None
    ) -> None:
        self._noun, self._total, self._live = noun, total, live and sys.stderr.isatty()
        self._start = self._drawn = time.perf_counter()
        self._width = 0
        self.num_rows = self.num_failed = self.num_repeated = 0
        self.num_cut = self.cut_tokens = 0

    def add(self, outcome: Outcome[Any]) -> None:
        self.num_rows += 1
        self.num_repeated += outcome.repeated
        if isinstance(outcome.answer, PawError):
            self.num_failed += 1
        elif outcome.answer.cut_tokens:
            self.num_cut += 1
            self.cut_tokens += outcome.answer.cut_tokens
        if self._live and time.perf_counter() - self._drawn > _EVERY_S:
            self._draw()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start

    @property
    def rows_s(self) -> float:
        return self.num_rows / self.seconds

    @property
    def notes(self) -> list[str]:
        """What else there is to say: repeated and cut rows."""
        notes = [
            (self.num_repeated, f"{self.num_repeated:,} repeated"),
            (self.num_cut, f"{self.num_cut:,} cut by {self.cut_tokens:,} tokens"),
        ]
        return [text for number, text in notes if number]

    @property
    def record(self) -> dict[str, Any]:
        """The summary as JSON has it."""
        names = ("num_rows", "num_failed", "num_repeated", "num_cut", "cut_tokens")
        return {name: getattr(self, name) for name in names} | {"seconds": self.seconds}

    def say(self, message: str) -> None:
        """A line of its own, above the one that is drawn anew."""
        self.clear()
        say(message)

    def say_error(self, number: int, error: PawError, as_json: bool) -> None:
        """A row's error, where the output has no place for it."""
        record = {"row": number} | error_record(error)
        as_text = f"{self._noun} {number}: {error}"
        self.say(json.dumps(record, ensure_ascii=False) if as_json else as_text)

    def clear(self) -> None:
        if self._width:
            say(f"\r{' ' * self._width}\r", nl=False)
            self._width = 0

    def _draw(self) -> None:
        self._drawn = time.perf_counter()
        total = self._total()
        of = "" if total is None else f"/{total:,}"
        parts = [f"{self.num_rows:,}{of} {self._noun}s", f"{self.rows_s:.1f} {self._noun}s/s"]
        if total is not None:
            minutes, seconds = divmod(max(0, round((total - self.num_rows) / self.rows_s)), 60)
            parts.append(f"{minutes // 60}:{minutes % 60:02}:{seconds:02} left")
        failed = [f"{self.num_failed:,} failed"] if self.num_failed else []
        columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        line = "  ".join([*parts, *self.notes, *failed])[: columns - 1]
        say(f"\r{line.ljust(self._width)}", nl=False)
        self._width = len(line)
