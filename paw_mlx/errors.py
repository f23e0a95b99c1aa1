"""Every error this package raises on purpose.

A message states what happened, with the numbers; the way out follows as a hint
(`error.__notes__`), which the command line prints on a `hint:` line of its own.
An exception that is no `PawError` is a bug of ours and keeps its traceback.

    PawError(Exception)
    ├─ OptionError      (ValueError)    a caller's argument is wrong
    │  └─ FieldError                    a field of rows is named that cannot be meant
    ├─ FormatError      (ValueError)    bytes are not what the layout promises
    │  ├─ UnknownLayout                 nothing known was found there
    │  └─ AdapterMismatch               sites, shapes, rank or base do not fit
    ├─ NotFound         (LookupError)   no such program, interpreter or path
    ├─ HubError         (OSError)       network, checksum
    │  └─ OfflineError                  offline, and not on this machine
    ├─ DiskError        (OSError)       a file cannot be read or written, or there is no room
    ├─ InputTooLong     (ValueError)    prefix + input + reserve > limit
    ├─ OutputError      (ValueError)    an output cannot be of its type: it was cut, or has no end
    ├─ CompileError     (RuntimeError)  making a program failed
    │  ├─ PseudoProgramError            no answer of the pseudo-compiler was one
    │  └─ QueueFull                     too many compiles wait already
    ├─ CallTimeout      (TimeoutError)  a call took longer than it was given
    ├─ DaemonError      (OSError)       a daemon, worker or cluster does not answer, or has gone
    └─ ClosedError      (RuntimeError)  used after close

One thing is no error but a warning: `DriftWarning` (UserWarning), when a program runs on other
weights than those it was compiled for.

A new error goes under the branch whose remedy it shares; add it here and to a test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_MAX_CHARS = 2000  # of a message or a hint


class PawError(Exception):
    """The root: catch it to catch everything raised here on purpose."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(_plain(message))
        if hint:
            self.add_note(hint)

    def add_note(self, note: str, /) -> None:
        """Add a hint, of one line or several."""
        super().add_note("\n".join(map(_plain, note.split("\n"))))

    @property
    def hints(self) -> list[str]:
        """The ways out, in the order they were added."""
        return list(getattr(self, "__notes__", []))

    def record(self, *, hints: bool = True) -> dict[str, Any]:
        """Return the error as JSON has it: its class's name, its message and its hints."""
        record: dict[str, Any] = {"code": type(self).__name__, "message": str(self)}
        return record | {"hints": self.hints} if hints else record

    @staticmethod
    def of(record: Mapping[str, Any]) -> PawError:
        """Make an error of its record; one of a class that is not known here is a `PawError`."""
        kind = globals().get(str(record.get("code")))
        if not (isinstance(kind, type) and issubclass(kind, PawError)):
            kind = PawError
        error = _revive(kind, (_plain(str(record.get("message"))),))
        hints = record.get("hints")
        for hint in hints if isinstance(hints, list) else ():
            error.add_note(str(hint))
        return error

    def __reduce__(self) -> tuple[Any, ...]:
        """Tell pickle and copy to pass `__init__` by: its arguments are each error's own."""
        return _revive, (type(self), self.args), self.__dict__


class OptionError(PawError, ValueError):
    """A caller's argument is wrong."""


class FieldError(OptionError):
    """A field of rows is named that is not there, or that cannot be added."""


class FormatError(PawError, ValueError):
    """Bytes are not what their layout promises."""


class UnknownLayout(FormatError):
    """Nothing known was found at the path."""


class AdapterMismatch(FormatError):
    """An adapter's sites, shapes, rank or base do not fit."""


class NotFound(PawError, LookupError):
    """No such program, interpreter or path."""


class HubError(PawError, OSError):
    """The network or a checksum failed."""


class OfflineError(HubError):
    """Offline, and not on this machine."""


class DiskError(PawError, OSError):
    """A file may not be read or cannot be written, or the disk has no room for it."""


class InputTooLong(PawError, ValueError):
    """Prefix, input and the tokens reserved for the output exceed the window."""


class OutputError(PawError, ValueError):
    """An output cannot be of its program's type."""


class CompileError(PawError, RuntimeError):
    """Making a program failed."""


class PseudoProgramError(CompileError):
    """No attempt gave a usable pseudo-program; `answer` is what the last one gave."""

    def __init__(self, message: str, answer: str) -> None:
        super().__init__(message, hint="Use a larger pseudo-compiler, or write it by hand.")
        self.answer = answer
        self.add_note(f"The last answer was:\n{answer}")


class QueueFull(CompileError):
    """Too many compiles wait already, or the process that would compile ends."""


class CallTimeout(PawError, TimeoutError):
    """A call took longer than its `timeout_s`."""


class DaemonError(PawError, OSError):
    """The daemon, a worker or a cluster does not answer, or was gone before it did."""


class ClosedError(PawError, RuntimeError):
    """An interpreter or function was used after it was closed."""


class DriftWarning(UserWarning):
    """A program runs on another base than the one it was compiled for; outputs may differ."""


def _plain(text: str) -> str:
    """Return a sentence as one line of bounded length, without what a terminal would obey.

    Files and libraries have a word in some.
    """
    if len(text) > _MAX_CHARS:
        text = f"{text[: _MAX_CHARS - 200]}…{text[-200:]}"
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else " " if c.isspace() else c.encode("unicode_escape").decode()
        for c in text
    )


def _revive(kind: type[PawError], args: tuple[Any, ...]) -> PawError:
    """Make an error again, but for its attributes and notes, which pickle sets."""
    error = kind.__new__(kind, *args)
    error.args = args
    return error


def listed(items: Sequence[object], limit: int = 5) -> str:
    """Join the first `limit` items and count the rest: `a, b and 3 more`."""
    text = ", ".join(str(item) for item in items[:limit])
    return text if len(items) <= limit else f"{text} and {len(items) - limit} more"
