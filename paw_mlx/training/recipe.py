"""How a program is trained: the numbers that a user may choose."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import OptionError


@dataclass(frozen=True)
class Recipe:
    """How to train. `held_out` is the share of the cases that is never trained on."""

    rank: int = 32
    alpha: float = 16.0
    steps: int = 120
    learning_rate: float = 1e-3
    batch_size: int = 8
    shots: int = 4  # cases shown in the pseudo-program
    held_out: float = 0.1
    checks: int = 4  # how often the held-out loss is looked at, to keep the best
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**64:
            raise OptionError(f"seed must lie in 0 … 2^64 - 1, not {self.seed}")
        if min(self.rank, self.steps, self.batch_size, self.checks) < 1:
            raise OptionError("rank, steps, batch_size and checks must be at least 1")
        if not (self.alpha > 0 and self.learning_rate > 0 and 0 < self.held_out < 1):
            raise OptionError("alpha and learning_rate must be above 0, held_out between 0 and 1")

    @property
    def scale(self) -> float:
        """What BA is multiplied by."""
        return self.alpha / self.rank
