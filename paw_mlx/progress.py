"""Who hears what a long step is doing: a line before each."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str], None]


def quiet(message: str) -> None:
    """Ignore the message: the progress of whoever does not want to hear of it."""
