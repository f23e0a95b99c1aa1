"""Who hears what a long step is doing: a line before each, and how far it is, for who draws it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

Progress = Callable[[str], None]


@runtime_checkable
class Meter(Protocol):
    """A Progress that also hears how much of the step it was told of last is done."""

    def __call__(self, message: str, /) -> None: ...

    def advance(self, done: float, total: float) -> None:
        """Hear that so much is done, in whatever unit; `done` is `total` at the end."""
        ...


def quiet(message: str) -> None:
    """Ignore the message: the progress of whoever does not want to hear of it."""


def advance(progress: Progress, done: float, total: float, line: str | None = None) -> None:
    """Say how far a step is: to a Meter in numbers; to others in that line, if there is one."""
    if isinstance(progress, Meter):
        progress.advance(done, total)
    elif line:
        progress(line)
