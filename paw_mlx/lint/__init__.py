"""What the field knows to go wrong in specs, found in one, with better wording from its own words.

A finding is advice: a spec with some may work, and one without any may not. Precision comes before
recall, for advice that is wrong is not read a second time. Each check was read against the specs of
`benchmarks/functions` before it got its place here: measure it again before changing its words.

read      a spec: its task, its examples, the labels that it speaks of
finding   what a check yields
labels    checks of labels and of examples
wording   checks of what is asked for, and of how
"""

from __future__ import annotations

from . import labels, wording
from .finding import Finding
from .read import Spec

__all__ = ["CHECKS", "Finding", "lint"]

# In the order in which findings come: what breaks a program first, what might help it last.
CHECKS = (
    labels.check_contradiction,
    labels.check_outside,
    labels.check_unbound,
    labels.check_alike,
    labels.check_unsure,
    wording.check_reasons,
    wording.check_score,
    wording.check_jobs,
    wording.check_format,
    wording.check_negative,
    wording.check_length,
    wording.check_examples,
)

_MAX_CHARS = 10_000  # of a spec: what is longer is found to be long, and no more


def lint(spec: str) -> list[Finding]:
    """Return what is known to go wrong in a spec, the gravest first; one finding of a kind."""
    read = Spec(spec)
    checks = CHECKS if len(spec) <= _MAX_CHARS else (wording.check_length,)
    return [finding for check in checks for finding in check(read)]
