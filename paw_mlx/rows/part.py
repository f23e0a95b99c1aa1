"""OUT.part: rows on their way to a file or a table OUT, which survive a kill.

Rows are appended to OUT.part one by one, each flushed. OUT.part.json says which job they are
of, and how many of them are errors. When all are there, OUT.part is renamed onto OUT, or OUT is
made of it (`Writer.seal`) as a whole. So a kill leaves whole rows and perhaps a cut one, after
which the same job can go on.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import FormatError, OptionError, listed
from ..files import disk_errors
from ..locks import lock, unlock
from ..words import counted
from .row import Writer
from .sink import Sink
from .target import Target, part_of, path_of, side_of


class Part(Sink):
    """OUT.part, locked: no other process writes it at the same time.

    `job` is what makes a run the same one. OptionError if the part is there and not to be
    resumed, is another job's, or is in use; DiskError if the disk refuses.
    """

    def __init__(self, output: Target, job: dict[str, Any], writer: Writer, resume: bool) -> None:
        super().__init__()
        self.output, self.path, self._seal = output, part_of(output), writer.seal
        self._side = side_of(self.path)
        self._job, self._num_written, self._refused = job, 0, False
        self._first: str | None = None  # a digest of what the input begins with
        with disk_errors(f"write {self.path}"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = _open_locked(self.path)
            try:
                self._start(writer, resume)
            except BaseException:
                if not os.fstat(self._file.fileno()).st_size:
                    self._remove()
                unlock(self._file)
                raise

    @property
    def kept(self) -> str | None:
        """The part and its rows, if there are any."""
        if not len(self):
            return None
        return f"{self.path} holds {counted(len(self), 'row')}: go on with --resume"

    def begin(self, text: str) -> None:
        """Note what the input begins with; OptionError if an earlier run's began otherwise."""
        data = text.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        if self._first is None:
            self._first = digest
            with disk_errors(f"write {self.path}"):
                self._note(None)
        elif digest != self._first:
            raise OptionError(
                f"{self.path} is of another job: its input began with another row",
                hint="Feed that input again, or remove it to begin anew.",
            )

    def write(self, number: int, data: bytes, failed: bool) -> None:
        """Append a row; an error is noted before it can be seen."""
        with disk_errors(f"write {self.path}"):
            if failed:
                self.num_failed += 1
                self._note(number)
            self._append(data)

    def finish(self) -> None:
        """Rename the part onto OUT, or make OUT of it."""
        with disk_errors(f"write {self.output}"):
            os.fsync(self._file.fileno())
            if self._seal:
                self._seal(self.path, self.output)
                self.path.unlink()
            else:
                self.path.replace(path_of(self.output))
            self._side.unlink(missing_ok=True)
            unlock(self._file)

    def close(self) -> None:
        """Close the part, and remove one without rows: nothing is lost with it.

        What a full disk did not take was said when it was written, and is not said again.
        """
        with suppress(OSError) if self._refused else disk_errors(f"write {self.path}"):
            if not self._file.closed and not len(self):
                self._remove()
            unlock(self._file)

    def __len__(self) -> int:
        return len(self.done) + self._num_written

    def _append(self, data: bytes) -> None:
        self._num_written += 1  # an interrupt behind the flush finds it counted
        try:
            self._file.write(data)
            self._file.flush()
        except OSError:
            self._num_written -= 1
            self._refused = True
            raise

    def _remove(self) -> None:
        self._side.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def _start(self, writer: Writer, resume: bool) -> None:
        """Begin with a head, or behind the last whole row of an earlier run."""
        end = 0
        if os.fstat(self._file.fileno()).st_size:
            if not resume:
                raise OptionError(
                    f"{self.path} is there, of a job that was interrupted",
                    hint="Go on with --resume, or remove it.",
                )
            before = self._read_side()
            end = self._scan(writer)
            self._first = before.get("first") if self.done else None
            self.num_failed, last = before["num_failed"], before["last_failed"]
            if last is not None and last not in self.done:
                self.num_failed -= 1  # it was noted before its row was written, and got no further
        self._file.truncate(end)
        self._file.seek(end)
        self._note(None)
        if not end:
            self._file.write(writer.head)
            self._file.flush()

    def _read_side(self) -> dict[str, Any]:
        """Read the earlier run's record; OptionError unless it was of this job."""
        try:
            record = json.loads(self._side.read_text(encoding="utf-8"))
            old = record["job"]
            if not isinstance(old, dict) or not {"num_failed", "last_failed"} <= record.keys():
                raise ValueError("no record of a job")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OptionError(
                f"{self._side} does not say which job {self.path} is of",
                hint=f"Remove {self.path} to begin anew.",
            ) from error
        if changes := differences(old, self._job):
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
        except OptionError:
            raise
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise FormatError(
                f"{self.path} is damaged after {counted(len(self.done), 'row')}",
                hint="Remove it to begin anew.",
            ) from error
        return end

    def _note(self, last_failed: int | None) -> None:
        # A rename survives a kill; `files.replacing` syncs, too, which is slow for every error.
        record = {"job": self._job, "first": self._first, "num_failed": self.num_failed}
        record["last_failed"] = last_failed
        new = self._side.with_name(f"{self._side.name}.new")
        new.write_text(json.dumps(record) + "\n", encoding="utf-8")
        new.replace(self._side)


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Say in words what differs between two jobs; of an input only that it does."""
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    sized = "input_bytes" in old and "input_bytes" in new
    if sized and {"input_bytes", "input_head"} & {*names} and "input" not in names:
        then, now = (f"{job['input_bytes']:,}" for job in (old, new))
        sizes = f": {then} bytes then, {now} now" if then != now else ""
        return [f"{new['input']} has changed since{sizes}"]
    return [f"{n} was {old.get(n)!r}, now {new.get(n)!r}" for n in names if "input_" not in n]


def _open_locked(path: Path) -> BinaryIO:
    """Open a file to read and append, made if missing, and hold it alone."""
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b")
        try:
            lock(file, path, wait=False)
        except BlockingIOError as error:
            unlock(file)
            raise OptionError(f"another process is writing {path}") from error
        if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
            return file
        unlock(file)  # the other process finished in between, and renamed it
