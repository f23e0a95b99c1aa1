"""What a user asks for, and what would be written for it."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .. import formats, settings, store
from ..errors import NotFound, OptionError
from ..files import read_errors
from ..output import TEXT, Labels
from . import text

# Of environments that are thrown away: `uvx`, `uv run --with`, `pipx run`.
_FLEETING = {".cache", "Caches", "archive-v0", "environments-v2"}
_OURS = uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/paw-mlx/mac")


@dataclass(frozen=True)
class Request:
    """A stored function, the kind it is asked for as, and the choices of the user.

    `labels` are what it says, empty where it says other texts; `told_labels` are those that the
    user named, since the program has none. `home` is a user's home. `folder` is what is watched,
    `to` where its files go, and `at` the time of day (hour, minute). `replace`: whether an answer
    replaces the selected text.
    """

    reference: str
    kind: str
    title: str
    about: str
    home: Path
    labels: tuple[str, ...] = ()
    told_labels: bool = False
    into: Path | None = None
    folder: Path | None = None
    to: Path | None = None
    at: tuple[int, int] | None = None
    replace: bool = True

    @property
    def slug(self) -> str:
        """Its name as a part of labels, identifiers and file names."""
        return self.reference.replace("/", ".").replace("@", "-")

    def uuid(self, part: str) -> str:
        """Return an identifier that is the same each time."""
        return str(uuid.uuid5(_OURS, f"{self.kind} {self.reference} {part}")).upper()


@dataclass(frozen=True)
class Plan:
    """What would be written: a file, or a folder of files, at `place`.

    `files` has contents by their paths below `place`; that of a file that is the place itself is
    "". `log` is what it will write to. `made` is what a tool of macOS makes of the place, beside
    it. `steps` are what is left to do by hand.
    """

    request: Request
    place: Path
    files: Mapping[str, bytes]
    executable: bool = False
    log: Path | None = None
    made: Path | None = None
    steps: tuple[str, ...] = field(default=())

    def paths(self) -> dict[Path, bytes]:
        """Return the contents by their whole paths."""
        return {
            self.place / name if name else self.place: data for name, data in self.files.items()
        }


def own_folder() -> Path:
    """Return the folder where this package may write without asking."""
    return settings.data_dir().absolute() / "mac"


def make_request(
    reference: str,
    kind: str,
    *,
    title: str | None = None,
    labels: tuple[str, ...] = (),
    replace: bool | None = None,
    home: Path | None = None,
    into: Path | None = None,
    folder: Path | None = None,
    to: Path | None = None,
    at: tuple[int, int] | None = None,
) -> Request:
    """Return what is asked for; NotFound for no stored function.

    OptionError where it could not work: texts that cannot be written, an environment that is
    thrown away.
    """
    _check(reference, labels)
    program = formats.load(store.find(reference))
    declared = program.output.labels if isinstance(program.output, Labels) else ()
    says = labels or declared
    if folder:
        folder = _watched(folder)
        to = to or (folder if kind == "folder-action" else folder.parent / f"{folder.name} sorted")
    name = text.file_name(title or reference + (" (files)" if kind == "finder" else ""))
    return Request(
        reference=reference,
        kind=kind,
        title=text.checked(name, "the title"),
        about=text.one_line(program.spec or "", 160),
        home=_whole(home or Path.home(), "the home"),
        labels=tuple(text.checked(label, "the label") for label in says),
        told_labels=bool(labels),
        into=into and _whole(into, "the folder"),
        folder=folder,
        to=to and _whole(to.resolve(), "the folder"),
        at=at,
        replace=not says and program.output == TEXT if replace is None else replace,
    )


def _check(reference: str, labels: tuple[str, ...]) -> None:
    if not store.is_reference(reference):
        raise OptionError(
            f"{reference!r} is no name of a stored function",
            hint="Store it first: `paw-mlx pull FILE --as NAME`. What macOS starts may not read "
            "files on the Desktop, or in Documents and Downloads.",
        )
    if fleeting := _FLEETING.intersection(Path(sys.prefix).parts):
        raise OptionError(
            f"this paw-mlx is installed for the moment, in {sys.prefix} ({fleeting.pop()})",
            hint="Install it to stay: `uv tool install paw-mlx` or `pipx install paw-mlx`.",
        )
    if any("," in label for label in labels):
        raise OptionError(
            "no script can pass --labels on that have a comma in them",
            hint="Let the program have them: `paw-mlx compile … --labels @FILE`.",
        )


def _watched(folder: Path) -> Path:
    """Return a folder's own path; NotFound if there is none, DiskError if nobody may look."""
    with read_errors(folder):
        folder = _whole(folder.resolve(), "the folder")
        if not folder.is_dir():
            raise NotFound(f"there is no folder {folder}")
    return folder


def _whole(path: Path, what: str) -> Path:
    return Path(text.checked(path.absolute(), what))
