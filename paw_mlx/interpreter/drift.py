"""Drift: a program on other weights than those it was compiled for and tested with.

Sizes that fit say nothing about the weights. A program that records its base's fingerprint
is held to it; one that records none runs unchecked. `--bits` is the user's own choice and no
drift: the fingerprint is that of the base before it is quantized on load, and a base that was
converted goes for its source too.
"""

from __future__ import annotations

import warnings

from ..errors import AdapterMismatch, DriftWarning
from ..formats.fingerprint import recorded
from ..program import Program
from .models.load import Base

_HINT = "Recompile it for this base, or run it on the base it was made for."
_warned: set[tuple[str, str]] = set()  # (program id, fingerprint), in this process


def check_drift(program: Program, base: Base, *, strict: bool) -> None:
    """Warn, once for each program and base, if they do not belong together.

    DriftWarning points three callers up; AdapterMismatch instead if `strict`.
    """
    made_for = recorded(program.meta, "interpreter")
    if made_for is None or made_for == base.fingerprint:
        return
    message = (
        f"the base {base.path} has the fingerprint {base.fingerprint[:12]!r}, and the program was "
        f"compiled for {made_for[:12]!r}: outputs may differ from those it was tested with"
    )
    if strict:
        raise AdapterMismatch(message, hint=_HINT)
    pair = program.id, base.fingerprint
    if pair not in _warned:
        warnings.warn(f"{message}. {_HINT}", DriftWarning, stacklevel=4)
        _warned.add(pair)
