"""Drift: a program on other weights than those it was compiled for and tested with.

Sizes that fit say nothing about the weights. A program that records its base's fingerprint
is held to it; one that records none, to the name that it gives, where the base came by one: a
hub repo, or the package index. If neither tells, strict refuses. `--bits` is the user's own
choice and no drift: the fingerprint is that of the base before it is quantized on load, and a
base that was converted goes for its source too.
"""

from __future__ import annotations

import warnings

from .. import hub
from ..errors import AdapterMismatch, DriftWarning
from ..formats.fingerprint import recorded
from ..formats.untrusted import shown
from ..profiles import find_profile
from ..program import Program
from .models.load import Base

_HINT = "Recompile it for this base, or run it on the base it was made for."
_warned: set[tuple[str, str]] = set()  # (program id, fingerprint), in this process


def check_drift(program: Program, base: Base, *, strict: bool) -> None:
    """Warn, once for each program and base, if they do not belong together.

    DriftWarning points three callers up; AdapterMismatch instead if `strict`.
    """
    message = _tell_drift(program, base)
    if strict and message is None and not _is_proven(program, base):
        raise AdapterMismatch(
            "the program records no fingerprint of the base it was made for, "
            f"{shown(program.interpreter)}, and nothing says where {base.path} comes from",
            hint="Leave strict out if you know that this is the one, or run it by its name.",
        )
    if message is None:
        return
    if strict:
        raise AdapterMismatch(message, hint=_HINT)
    pair = program.id, base.fingerprint
    if pair not in _warned:
        warnings.warn(f"{message}. {_HINT}", DriftWarning, stacklevel=4)
        _warned.add(pair)


def drift_warnings(program: Program, base: Base) -> list[str]:
    """Return what `check_drift` warns of, whether or not it did before."""
    message = _tell_drift(program, base)
    return [f"{message}. {_HINT}"] if message else []


def _tell_drift(program: Program, base: Base) -> str | None:
    """Say that a base is another than a program's: by fingerprint, or by name; None if it is not
    known to be."""
    made_for = recorded(program.meta, "interpreter")
    if made_for is not None and made_for != base.fingerprint:
        return (
            f"the base {base.path} has the fingerprint {base.fingerprint[:12]!r}, and the program "
            f"was compiled for {made_for[:12]!r}: outputs may differ from those it was tested with"
        )
    name = hub.origin(base.path)
    if made_for is None and name and not _is_same(program.interpreter, name):
        return (
            f"the program was made for {shown(program.interpreter)}, and the base is {name}: "
            "its weights are others, so outputs may differ"
        )
    return None


def _is_same(one: str, other: str) -> bool:
    """Return whether two names or hub repos promise the same weights."""
    known = find_profile(one)
    return one.lower() == other.lower() or (known is not None and known is find_profile(other))


def _is_proven(program: Program, base: Base) -> bool:
    """Return whether a base that is not known to be another is known to be a program's."""
    if recorded(program.meta, "interpreter") is not None:
        return True
    return _is_same(program.interpreter, hub.origin(base.path))
