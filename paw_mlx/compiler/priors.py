"""What a new program says of inputs that say nothing: the priors of its labels.

A small model that reads a spec prefers one label to another before it has read any input, by its
name or its place. Contextual calibration (arXiv 2102.09690) measures that and takes it away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ..functions import Function
from ..output import Labels
from ..program import Program
from ..runner import Runner

# Of several kinds, since what "says nothing" depends on the function: each says nothing to most.
INPUTS = (
    "ok",
    "Hello",
    "N/A",
    "The meeting is on Monday.",
    "42",
    "I like it",
    "[INFO] done",
    "Can you help me?",
    "Thanks!",
    "http://example.org/page",
    "It was raining all day and we stayed home.",
    '{"id": 7}',
)
_LEAST = 1e-9


def calibrate_labels(runner: Runner, program: Program) -> Program:
    """Return a program with its labels' priors; one whose output is of another type as it is."""
    labels = program.output
    if not isinstance(labels, Labels) or labels.priors:
        return program
    answers = [result.decision for result in map(Function(runner, program).run, INPUTS)]
    shares = [decision.probabilities for decision in answers if decision]
    priors = tuple(_log_mean([each[label] for each in shares]) for label in labels.labels)
    return replace(program, output=replace(labels, priors=priors))


def _log_mean(shares: Sequence[float]) -> float:
    return math.log(max(sum(shares) / len(shares), _LEAST))
