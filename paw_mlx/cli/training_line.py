"""What commands that train say: of rows that are left out, and of every step."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import listed
from ..progress import Progress
from .voice import StatusLine, left, say

if TYPE_CHECKING:
    from ..training.loop import TrainingStep
    from ..training.replay import Rows

_NAMED = 12


def tell_rows(rows: Rows) -> None:
    """Name the rows that are left out, if there are any."""
    if found := rows.contradictory:
        say(f"left out, since they contradict each other: {listed(found, _NAMED)}")
    if found := rows.repeated:
        say(f"left out, since they are there already: {listed(found, _NAMED)}")


def training_line(tell: Progress) -> Callable[[TrainingStep], None]:
    """Return what draws every step in its place, and tells of every check."""
    start, begun, held_out = time.perf_counter(), -1.0, ""

    def report(step: TrainingStep) -> None:
        nonlocal start, begun, held_out
        if step.share < begun or begun < 0:  # the first step, or that of another training
            start, begun = time.perf_counter(), step.share
        line = f"step {step.number}  loss {step.loss:.3f}"
        if step.check:
            held_out = f"  held out {step.check.metric:.1%} (loss {step.check.loss:.3f})"
            tell(f"{line}{held_out}{' *' if step.best_step == step.number else ''}")
        elif step.share > begun:
            share = (step.share - begun) / (1 - begun)
            StatusLine.draw(f"{line}{held_out}  {left(time.perf_counter() - start, share)}")

    return report
