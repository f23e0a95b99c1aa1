"""What commands say on standard error: lines, and on a terminal one that is drawn in its place."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from itertools import count
from typing import Any

import click

from ..words import harmless

EVERY_S = 0.2  # between two drawings, at least
_BAR = 24  # columns


def say(message: str, heading: str = "", **style: Any) -> None:
    """Print a line of status, whether or not anyone reads it, in place of one that is drawn.

    What a terminal would obey is escaped, but for the style of a heading before it.
    """
    StatusLine.wipe()
    head = f"{click.style(heading, **style)} " if heading else ""
    click.echo(f"{head}{harmless(message)}", err=True)


class StatusLine:
    """A line on a terminal, drawn anew in its place; nothing where standard error is none."""

    _width = 0  # of the one that stands there now
    _drawn = 0.0

    @classmethod
    def draw(cls, text: str) -> None:
        """Draw it, cut to the terminal's width, unless that was done just now."""
        if not sys.stderr.isatty() or time.perf_counter() - cls._drawn < EVERY_S:
            return
        text = text[: _count_columns() - 1]
        click.echo(f"\r{text.ljust(cls._width)}", nl=False, err=True)
        cls._width, cls._drawn = len(text), time.perf_counter()

    @classmethod
    def wipe(cls) -> None:
        """Wipe it away."""
        if cls._width:
            click.echo(f"\r{' ' * cls._width}\r", nl=False, err=True)
            cls._width = 0


class Status:
    """The Progress of a command: for someone watching a terminal, and for nobody else.

    A message is a line; how far its step is, a bar below it until it is done.
    """

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def __call__(self, message: str, /, heading: str = "", **style: Any) -> None:
        """Print a message, as `say` does."""
        self._start = time.perf_counter()
        if sys.stderr.isatty():
            say(message, heading, **style)

    def advance(self, done: float, total: float) -> None:
        """Draw the bar; wipe it away when all is done."""
        if done >= total:
            StatusLine.wipe()
            return
        share = max(done, 0) / total
        parts = [f"[{'#' * int(share * _BAR):-<{_BAR}}]", f"{share:4.0%}"]
        if share:
            parts.append(left(time.perf_counter() - self._start, share))
        StatusLine.draw("  ".join(parts))

    def counting(self, total: int) -> Callable[[object], None]:
        """Return what draws the bar on by one of so many, each time it is called."""
        num_done = count(1)
        return lambda _: self.advance(next(num_done), total)


status = Status()


def left(seconds: float, share: float) -> str:
    """Say how long it still takes, if a share of it took so many seconds: `0:01:05 left`."""
    minutes, left_s = divmod(max(0, round(seconds / share - seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{left_s:02} left"


def _count_columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except OSError:  # the terminal is gone
        return 80
