"""Names and quoting: nothing that a program, a label or a path says becomes code."""

from __future__ import annotations

import shlex
import unicodedata
from pathlib import Path

from ..errors import OptionError

_MAX_NAME_BYTES = 120  # of a file, with its suffix well below the 255 that disks take


def one_line(text: str, limit: int) -> str:
    """Return a text as one line of at most `limit` characters that can be printed."""
    line = "".join(c if _can_be_written(c) else " " for c in text)
    line = " ".join(line.split())
    return line if len(line) <= limit else f"{line[: limit - 1].rstrip()}…"


def file_name(text: str) -> str:
    """Return a name for a file or folder that keeps a text's words; `_` if it has none.

    It has no `/` and no `:` (Finder's), and does not begin with `.` or `-`.
    """
    line = one_line(text, _MAX_NAME_BYTES).translate({ord("/"): "-", ord(":"): "-"})
    line = line.encode()[:_MAX_NAME_BYTES].decode(errors="ignore")
    return line.lstrip(" .-").rstrip(" .") or "_"


def checked(text: str | Path, what: str) -> str:
    """Return a text that a property list and a shell can hold; OptionError for one they cannot."""
    text = str(text)
    for character in text:
        if not _can_be_written(character):
            raise OptionError(
                f"{what} {text!r} holds {character!r}, which scripts and property lists cannot"
            )
    return text


def sh(*words: str) -> str:
    """Return words as a POSIX shell reads them back, one by one."""
    return shlex.join(words)


def quoted(text: str) -> str:
    """Return a text in quotes, which is no word of a shell's own, as a bare `esac` is."""
    return "'" + text.replace("'", "'\\''") + "'"


def applescript(text: str) -> str:
    """Return a text as a string of AppleScript's."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _can_be_written(character: str) -> bool:
    """Return whether XML and a line of a script can hold a character."""
    return unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp") and (
        character not in "\ufffe\uffff"
    )
