"""What a run over many rows has come to, in numbers."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import PawError

if TYPE_CHECKING:
    from .flow import Outcome


@dataclass
class Tally:
    """Counts of rows since it was made.

    `num_repeated` rows were answered by another row's call; of `num_cut` rows an overflow policy
    left out `cut_tokens` in all; `num_unended` outputs were cut where their tokens ran out;
    `num_abstained` got no label, none being likely enough.
    """

    num_rows: int = 0
    num_failed: int = 0
    num_repeated: int = 0
    num_cut: int = 0
    cut_tokens: int = 0
    num_unended: int = 0
    num_abstained: int = 0
    _start: float = field(default_factory=time.perf_counter, init=False, repr=False)

    def add(self, outcome: Outcome[Any]) -> None:
        """Count what became of a row."""
        self.num_rows += 1
        self.num_repeated += outcome.repeated
        if isinstance(outcome.answer, PawError):
            self.num_failed += 1
            return
        self.num_unended += not outcome.answer.is_whole
        self.num_abstained += bool(outcome.answer.decision and outcome.answer.decision.abstained)
        if outcome.answer.cut_tokens:
            self.num_cut += 1
            self.cut_tokens += outcome.answer.cut_tokens

    @property
    def seconds(self) -> float:
        """Seconds since it was made."""
        return time.perf_counter() - self._start

    @property
    def rows_s(self) -> float:
        """Rows per second."""
        return self.num_rows / self.seconds

    @property
    def record(self) -> dict[str, Any]:
        """The counts, and the seconds, as JSON has them."""
        return {
            "num_rows": self.num_rows,
            "num_failed": self.num_failed,
            "num_repeated": self.num_repeated,
            "num_cut": self.num_cut,
            "cut_tokens": self.cut_tokens,
            "num_unended": self.num_unended,
            "num_abstained": self.num_abstained,
            "seconds": self.seconds,
        }
