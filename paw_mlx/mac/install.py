"""Install and remove: nothing is written that is not in the register, or over what is not ours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ..errors import NotFound, OptionError, PawError, listed
from ..files import disk_errors, exists, replacing
from . import register, system
from .kinds import KINDS
from .plan import Plan, Request, own_folder
from .register import Entry, sha256

_LABELLING = ("finder", "folder-action", "launch-agent")
_NO_LABELS = "{name} says any text, which is kept as it is: with --labels A,B it tells files apart."


def plan(request: Request) -> Plan:
    """Return what would be written; OptionError or NotFound for what cannot be."""
    made = KINDS[request.kind].plan(request)
    if not request.labels and request.kind in _LABELLING:
        return replace(made, steps=(*made.steps, _NO_LABELS.format(name=request.reference)))
    return made


def check_place(request: Request) -> None:
    """Raise OptionError unless this machine has a place for it, or the user named one."""
    named = request.into or request.home != Path.home()
    if KINDS[request.kind].needs_home and not (system.is_mac() or named):
        raise OptionError(
            f"this is no Mac, and only a Mac has a place for --as {request.kind}",
            hint="Write it below another home with --home DIR, or into a folder with --into DIR.",
        )


def is_asked_for(plan: Plan) -> bool:
    """Return whether a plan writes outside of the folder that is ours."""
    return not plan.place.is_relative_to(own_folder())


def is_told(plan: Plan) -> bool:
    """Return whether macOS is to be told of it: it is one, and lies where that looks."""
    request = plan.request
    return system.is_mac() and request.into is None and request.home == Path.home()


def install(plan: Plan, *, force: bool = False, call: system.Call = system.call) -> Entry:
    """Write what is planned, in place of what was installed before; return its entry.

    OptionError where something else lies, or where it was changed by hand since, unless `force`;
    DiskError if the disk refuses. What macOS refuses to be told is a warning.
    """
    request, paths = plan.request, plan.paths()
    with register.changing() as found:
        before = next((e for e in found if _is(e, request.reference, request.kind)), None)
        others = [e for e in found if e is not before]
        _check_free(plan, before, others, force)
        told = is_told(plan)
        if before and Path(before.place) != plan.place:
            _take_away(before, call)
            before = None
        known = before.files if before else {}
        entry = Entry(
            request.reference,
            request.kind,
            request.title,
            str(plan.place),
            {str(path): (sha256(data), *known.get(str(path), ())) for path, data in paths.items()},
            (*(before.folders if before else ()), *_missing_folders(plan)),
            str(plan.log) if plan.log else None,
            str(request.folder) if request.folder else None,
            told,
        )
        register.write([*others, entry])
        try:
            _write(plan)
        except PawError:
            register.write([*others, *([before] if before else [])])
            raise
        entry = replace(entry, files={str(path): (sha256(data),) for path, data in paths.items()})
        if told and plan.made:
            entry = _make(entry, plan.made, known, [*others, entry], call)
        register.write([*others, entry])
    if told:
        system.tell(entry, call)
    return entry


def remove(
    reference: str, kind: str | None, *, force: bool = False, call: system.Call = system.call
) -> list[Entry]:
    """Remove what was installed of a function, as one kind or all; return what that was.

    Only what was written is deleted. OptionError, and nothing is, where something was changed by
    hand since, unless `force`; NotFound if nothing was installed.
    """
    with register.changing() as found:
        chosen = chosen_of(found, reference, kind)
        for entry in chosen:
            _check_unchanged(entry, force)
        for entry in chosen:
            _take_away(entry, call)
            found.remove(entry)
            register.write(found)
    return chosen


def chosen_of(found: Sequence[Entry], reference: str, kind: str | None) -> list[Entry]:
    """Return the entries of a function, as one kind or all; NotFound if there are none."""
    chosen = [e for e in found if _is(e, reference, kind or e.kind)]
    if not chosen:
        as_kind = f" as {kind}" if kind else ""
        raise NotFound(
            f"{reference!r} is not installed{as_kind}", hint="`paw-mlx mac ls` lists what is."
        )
    return chosen


def _is(entry: Entry, reference: str, kind: str) -> bool:
    return (entry.reference, entry.kind) == (reference, kind)


def _check_free(plan: Plan, before: Entry | None, others: Sequence[Entry], force: bool) -> None:
    if before:
        _check_unchanged(before, force)
    for other in others:
        if {other.place, *other.files} & {str(plan.place), str(plan.made)}:
            raise OptionError(
                f"{other.reference} as {other.kind} lies at {plan.place} already",
                hint="Give this one another name: --title TEXT",
            )
    for path in filter(None, (plan.place, plan.made)):
        ours = before is not None and (str(path) == before.place or str(path) in before.files)
        if not ours and register.digest_of(path):
            raise OptionError(
                f"{path} is there already, and not of paw-mlx's making",
                hint="Give this one another name: --title TEXT",
            )


def _check_unchanged(entry: Entry, force: bool) -> None:
    if not force and (changed := entry.changed()):
        raise OptionError(
            f"{listed(changed)} was changed since it was installed",
            hint="Keep a copy; --force removes or replaces it all the same.",
        )


def _write(plan: Plan) -> None:
    with replacing(plan.place) as temporary:
        for name, data in plan.files.items():
            path = temporary / name if name else temporary
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(0o755 if plan.executable else 0o644)
    if plan.log:
        with disk_errors(f"make {plan.log.parent}"):
            plan.log.parent.mkdir(parents=True, exist_ok=True)


def _make(
    entry: Entry,
    made: Path,
    known: dict[str, tuple[str, ...]],
    everything: list[Entry],
    call: system.Call,
) -> Entry:
    """Have macOS make its file of what was written, and note that, before and after."""
    ours = {str(made): known.get(str(made), ())}
    register.write([*everything[:-1], replace(entry, files=entry.files | ours)])
    if not system.make(entry.kind, Path(entry.place), made, call):
        return entry
    return replace(entry, files=entry.files | {str(made): (register.digest_of(made) or "",)})


def _take_away(entry: Entry, call: system.Call) -> None:
    """Delete the files of an entry, the folders made for it that are empty, and its log."""
    if entry.called:
        system.forget(entry, call)
    place, log = Path(entry.place), Path(entry.log) if entry.log else None
    files = [] if place.is_symlink() else map(Path, entry.files)
    for path in {*files, *entry.inside(), *filter(None, [log])}:
        with disk_errors(f"remove {path}"), suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
    if place.is_symlink():
        place.unlink()
    below = sorted((Path(root) for root, _, _ in os.walk(place)), reverse=True)
    for folder in (*below, *map(Path, reversed(entry.folders)), *([log.parent] if log else [])):
        with suppress(OSError):  # something of others' is in it, or it is gone
            folder.rmdir()


def _missing_folders(plan: Plan) -> list[str]:
    """Return the folders that have to be made for a place, the outermost first."""
    parents = plan.place.parents
    missing = [str(p) for p in parents if not exists(p) and not own_folder().is_relative_to(p)]
    return missing[::-1]
