"""URLs of tables in SQLite databases, as SQLAlchemy spells them."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, unquote

from ..errors import OptionError

DEFAULT_TABLE = "output"  # of an output that names none
_URL = "sqlite:"


def is_url(place: object) -> bool:
    """Return whether a place is a URL of a SQLite database, and no path."""
    return isinstance(place, str) and place.startswith(_URL)


def parse_url(url: str) -> tuple[Path, str | None]:
    """Return the file and the table of `sqlite:///FILE?table=T`.

    Three slashes lead to a relative path, four to an absolute one; % escapes. OptionError for
    anything else.
    """
    place, _, query = url.removeprefix(_URL).partition("?")
    file = unquote(place.removeprefix("///"), errors="surrogateescape")
    if not place.startswith("///") or not file.strip("/") or "\0" in file:
        raise OptionError(
            f"{url!r} names no file",
            hint="Write sqlite:///FILE?table=T, with four slashes for an absolute path.",
        )
    options = parse_qsl(query, keep_blank_values=True)
    if query and ([name for name, _ in options] != ["table"] or not options[0][1]):
        raise OptionError(f"{url!r}: all that may stand behind the ? is a table, ?table=T")
    return Path(file), options[0][1] if options else None
