"""The pairs of a function, whoever its teacher is."""

from __future__ import annotations

import math
from pathlib import Path

from .function import Function
from .given import take_pairs
from .report import PairsReport
from .teacher import Teacher
from .writing import DEFAULT_PAIRS, Report, write_pairs


def make_pairs(
    function: Function,
    teacher: Teacher | Path,
    path: Path,
    num_pairs: int | None = None,
    *,
    seed: int = 0,
    report: Report = lambda so_far: None,
    deadline_s: float = math.inf,
) -> PairsReport:
    """Write a file of `num_pairs` pairs, of a teacher or out of a file of pairs; go on with one.

    Without a number, 600 of a teacher, or all of a file. Errors as of `write_pairs` and
    `take_pairs`.
    """
    if isinstance(teacher, Path):
        return take_pairs(function, teacher, path, num_pairs)
    return write_pairs(
        function,
        teacher,
        path,
        num_pairs or DEFAULT_PAIRS,
        seed=seed,
        report=report,
        deadline_s=deadline_s,
    )
