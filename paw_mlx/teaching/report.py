"""What came of asking a teacher: what was kept, what was dropped, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class PairsReport:
    """Pairs kept of those `wanted`, the dropped by reason, over all runs that wrote the file.

    `by_label` counts the kept of each label, and is None for another type. `stopped` says why it
    ended with fewer than were wanted. `seconds` are this run's.
    """

    teacher: str
    wanted: int
    kept: int = 0
    found: int = 0  # of the kept, those that an earlier run had written
    questions: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    by_label: dict[str, int] | None = None
    stopped: str | None = None
    seconds: float = 0.0

    @property
    def num_dropped(self) -> int:
        """All that was dropped."""
        return self.dropped.total()

    def record(self) -> dict[str, Any]:
        """Return it as JSON has it, the most frequent reason first."""
        return vars(self) | {"dropped": dict(self.dropped.most_common())}
