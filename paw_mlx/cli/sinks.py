"""Where rows go: standard output, or OUT by way of OUT.part, which survives a kill.

Rows are appended to OUT.part one by one, each flushed. OUT.part.json says which job they are
of, and how many of them are errors. When all are there, OUT.part is renamed onto OUT. So a kill
leaves whole rows and perhaps a cut one, after which the same job can go on.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from ..errors import FormatError, HubError, OptionError, listed
from .rows import Writer


class Done:
    """The numbers of rows that are written: all up to one, and some beyond it."""

    def __init__(self) -> None:
        self.through = 0
        self._beyond: set[int] = set()

    def add(self, number: int) -> None:
        self._beyond.add(number)
        while self.through + 1 in self._beyond:
            self.through += 1
            self._beyond.remove(self.through)

    def __contains__(self, number: int) -> bool:
        return 0 < number <= self.through or number in self._beyond

    def __len__(self) -> int:
        return self.through + len(self._beyond)


class Stdout:
    """Rows to standard output, each at once; `num_failed` of them are errors."""

    def __init__(self, head: bytes = b"") -> None:
        self.done, self.num_failed = Done(), 0
        self._head = head

    def write(self, number: int, data: bytes, failed: bool) -> None:
        self.num_failed += failed
        sys.stdout.buffer.write(self._head + data)
        sys.stdout.buffer.flush()
        self._head = b""

    def finish(self) -> None:
        if self._head:
            self.write(0, b"", False)

    def __enter__(self) -> Stdout:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


def hush() -> None:
    """Let what is still to be printed go nowhere: nobody reads standard output any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def part_of(output: Path) -> Path:
    return output.with_name(f"{output.name}.part")


class Part:
    """OUT.part, locked: no other process writes it at the same time.

    `done` are the rows of an earlier run; `num_failed` counts its errors, too.
    OptionError if it is there and not to be resumed, is another job's, or is in use;
    HubError if the disk refuses.
    """

    def __init__(self, output: Path, job: dict[str, Any], writer: Writer, resume: bool) -> None:
        self.output, self.path = output, part_of(output)
        self._side = output.with_name(f"{output.name}.part.json")
        self.done, self.num_failed, self._job = Done(), 0, job
        self._num_written = 0
        with _disk(self.path):
            output.parent.mkdir(parents=True, exist_ok=True)
            self._file = _locked(self.path)
            try:
                self._begin(writer, resume)
            except BaseException:
                self._file.close()
                raise

    def write(self, number: int, data: bytes, failed: bool) -> None:
        with _disk(self.path):
            if failed:
                self.num_failed += 1
                self._note(number)
            self._file.write(data)
            self._file.flush()
        self._num_written += 1

    def finish(self) -> None:
        with _disk(self.output):
            os.fsync(self._file.fileno())
            self.path.replace(self.output)
            self._side.unlink()

    def __len__(self) -> int:
        return len(self.done) + self._num_written

    def __enter__(self) -> Part:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with _disk(self.path):
            if error and not len(self):  # nothing is lost
                self._side.unlink(missing_ok=True)
                self.path.unlink(missing_ok=True)
            self._file.close()

    def _begin(self, writer: Writer, resume: bool) -> None:
        end = 0
        if os.fstat(self._file.fileno()).st_size:
            if not resume:
                raise OptionError(
                    f"{self.path} is there, of a job that was interrupted",
                    hint="Go on with --resume, or remove it.",
                )
            before = self._before()
            end = self._scan(writer)
            last = before["last_failed"]
            # Its number was noted before the row was written: it may have got no further.
            self.num_failed = before["num_failed"] - (last is not None and last not in self.done)
        self._file.truncate(end)
        self._file.seek(end)
        self._note(None)
        if not end:
            self._file.write(writer.head)
            self._file.flush()

    def _before(self) -> dict[str, Any]:
        """The earlier run's record, if it was of this job."""
        try:
            record = json.loads(self._side.read_text(encoding="utf-8"))
            old = record["job"]
            _ = record["num_failed"], record["last_failed"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OptionError(
                f"{self._side} does not say which job {self.path} is of",
                hint=f"Remove {self.path} to begin anew.",
            ) from error
        names = [name for name in {**old, **self._job} if old.get(name) != self._job.get(name)]
        if names:
            changes = [f"{n} was {old.get(n)!r}, now {self._job.get(n)!r}" for n in names]
            raise OptionError(
                f"{self.path} is of another job: {listed(changes)}",
                hint="Resume with that job's input and options, or remove it to begin anew.",
            )
        return record

    def _scan(self, writer: Writer) -> int:
        """Note which rows are there; return where the last whole one ends."""
        end = 0
        try:
            for num_bytes, number in writer.whole(self._file):
                end += num_bytes
                if number:
                    self.done.add(number)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise FormatError(
                f"{self.path} is damaged after {len(self.done)} rows",
                hint="Remove it to begin anew.",
            ) from error
        return end

    def _note(self, last_failed: int | None) -> None:
        record = {"job": self._job, "num_failed": self.num_failed, "last_failed": last_failed}
        new = self._side.with_name(f"{self._side.name}.new")
        new.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")
        new.replace(self._side)


def _locked(path: Path) -> BinaryIO:
    """Open a file to read and append, made if missing, and hold it alone."""
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise OptionError(f"another process is writing {path}") from error
        if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
            return file
        file.close()  # the other process finished in between, and renamed it


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, HubError):
            raise
        raise HubError(f"cannot write {path}: {error.strerror or error}") from error
