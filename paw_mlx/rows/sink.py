"""Where rows go: what a sink is, and an open stream as one. A file is `part.Part`."""

from __future__ import annotations

from typing import BinaryIO

from ..errors import DiskError
from .pipes import write_all


class Done:
    """The numbers of rows that are written: all up to one, and some beyond it."""

    def __init__(self) -> None:
        self.through = 0
        self._beyond: set[int] = set()

    def add(self, number: int) -> None:
        """Note that a row is written."""
        self._beyond.add(number)
        while self.through + 1 in self._beyond:
            self.through += 1
            self._beyond.remove(self.through)

    def __contains__(self, number: int) -> bool:
        return 0 < number <= self.through or number in self._beyond

    def __len__(self) -> int:
        return self.through + len(self._beyond)


class Sink:
    """Where rows go. `done` are those of an earlier run; `num_failed` counts errors, its, too."""

    def __init__(self) -> None:
        self.done, self.num_failed = Done(), 0

    @property
    def kept(self) -> str | None:
        """What an interrupted run leaves to go on with, in words."""
        return None

    def begin(self, text: str) -> None:
        """Hear what the input begins with, before anything is written."""

    def write(self, number: int, data: bytes, failed: bool) -> None:
        """Write a row, which can then be seen."""
        raise NotImplementedError

    def finish(self) -> None:
        """Hear that all rows are written."""

    def close(self) -> None:
        """Leave nothing open, whether or not all rows are written."""


class Stream(Sink):
    """Rows to an open stream, each at once, after a head.

    BrokenPipeError when nobody reads it any more; DiskError if it takes no more.
    """

    def __init__(self, stream: BinaryIO, name: str, head: bytes = b"") -> None:
        super().__init__()
        self._stream, self._name, self._head = stream, name, head

    def write(self, number: int, data: bytes, failed: bool) -> None:
        """Write a row, before the first also the head."""
        self.num_failed += failed
        try:
            write_all(self._stream, self._head + data)
        except (BrokenPipeError, DiskError):
            raise
        except OSError as error:
            raise DiskError(f"cannot write {self._name}: {error.strerror}") from error
        self._head = b""

    def finish(self) -> None:
        """Write the head if there was no row."""
        if self._head:
            self.write(0, b"", False)
