"""What a run over many rows has come to, on stderr: while it runs, and when it ends."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from ..errors import PawError
from .common import say

if TYPE_CHECKING:
    from ..interpreter.mapping import Outcome

_EVERY_S = 0.2


class Tally:
    """Counts of rows; a line that is drawn anew, if `live`."""

    def __init__(self, total: int | None = None, live: bool = False) -> None:
        self._total, self._live = total, live and sys.stderr.isatty()
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

    def say(self, message: str) -> None:
        """A line of its own, above the one that is drawn anew."""
        self.clear()
        say(message)

    def clear(self) -> None:
        if self._width:
            click.echo(f"\r{' ' * self._width}\r", nl=False, err=True)
            self._width = 0

    def _draw(self) -> None:
        self._drawn = time.perf_counter()
        of = "" if self._total is None else f"/{self._total:,}"
        parts = [f"{self.num_rows:,}{of} rows", f"{self.rows_s:.1f} rows/s"]
        if self._total is not None:
            left = round((self._total - self.num_rows) / self.rows_s)
            parts.append(f"{max(0, left) // 60}:{max(0, left) % 60:02} left")
        failed = [f"{self.num_failed:,} failed"] if self.num_failed else []
        line = "  ".join([*parts, *self.notes, *failed])
        click.echo(f"\r{line.ljust(self._width)}", nl=False, err=True)
        self._width = len(line)
