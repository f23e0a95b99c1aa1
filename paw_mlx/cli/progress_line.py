"""How far a run over many rows has come: a line on stderr that is drawn anew."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

from ..errors import PawError
from ..rows.tally import Tally
from .common import say

EVERY_S = 0.2  # between two drawings, at least


class ProgressLine:
    """The line of a tally of rows, or what they are called: drawn if `live`, on a terminal.

    `total` says how many there will be, as far as is known.
    """

    def __init__(
        self,
        noun: str,
        tally: Tally,
        live: bool,
        total: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._noun, self._tally, self._total = noun, tally, total
        self._live = live and sys.stderr.isatty()
        self._drawn = time.perf_counter()
        self._width = 0

    def update(self) -> None:
        """Draw the line, unless it was drawn just now."""
        if self._live and time.perf_counter() - self._drawn > EVERY_S:
            self._draw()

    def say(self, message: str) -> None:
        """Print a line of its own, in place of the one that is drawn anew."""
        self.clear()
        say(message)

    def say_error(self, number: int, error: PawError, as_json: bool) -> None:
        """Print a row's error, where the output has no place for it."""
        if as_json:
            record = {"row": number, "error": error.record()}
            self.say(json.dumps(record, ensure_ascii=False))
        else:
            self.say(f"{self._noun} {number}: {error}")

    def clear(self) -> None:
        """Wipe the line away."""
        if self._width:
            say(f"\r{' ' * self._width}\r", nl=False)
            self._width = 0

    def _draw(self) -> None:
        self._drawn = time.perf_counter()
        tally, noun, total = self._tally, self._noun, self._total()
        of = "" if total is None else f"/{total:,}"
        parts = [f"{tally.num_rows:,}{of} {noun}s", f"{tally.rows_s:.1f} {noun}s/s"]
        if total is not None:
            left_s = max(0, round((total - tally.num_rows) / tally.rows_s))
            minutes, seconds = divmod(left_s, 60)
            parts.append(f"{minutes // 60}:{minutes % 60:02}:{seconds:02} left")
        parts += notes(tally)
        if tally.num_failed:
            parts.append(f"{tally.num_failed:,} failed")
        columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        line = "  ".join(parts)[: columns - 1]
        say(f"\r{line.ljust(self._width)}", nl=False)
        self._width = len(line)


def notes(tally: Tally) -> list[str]:
    """Say what else there is to a run: repeated and cut rows."""
    found = []
    if tally.num_repeated:
        found.append(f"{tally.num_repeated:,} repeated")
    if tally.num_cut:
        found.append(f"{tally.num_cut:,} cut by {tally.cut_tokens:,} tokens")
    return found
