"""The steps of a training, whatever is trained.

Parameters are a tree of arrays: a dict, as of LoRA pairs, or what an `nn.Module` calls its
trainable parameters. Adam lowers the loss of one batch after another. Now and then the
parameters are judged by what they are not trained on: the best of these states is kept, and where
none has been better for a while, it ends. With a folder, all of it is there after each check, and a
run that was cut off goes on from there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

import mlx.core as mx
import mlx.optimizers as optim
from mlx.utils import tree_map

from ..errors import CompileError
from .checkpoint import Checkpoints

Tree = TypeVar("Tree", bound=dict[str, Any])  # of arrays
Data = TypeVar("Data")  # a part of a batch, as the loss takes it

_WARMUP = 0.1  # of the way: the learning rate rises
_FREE = 0.5  # of the way: before it, nothing ends early
_LEARNED = 3  # checks in a row at which all was right: there is nothing left to learn


@dataclass(frozen=True)
class Check:
    """How good a state is: `metric` first (0 to 1, more is better), then less `loss` (nats)."""

    metric: float
    loss: float

    @property
    def rank(self) -> tuple[float, float]:
        """What is larger for the better state."""
        return self.metric, -self.loss


@dataclass(frozen=True)
class TrainingStep:
    """What a finished step reports; `check` at checks only.

    `share` says how much of the way is behind it, 0 to 1, `best_step` which state would be kept,
    0 for the first.
    """

    number: int
    loss: float
    share: float
    check: Check | None
    best_step: int


@dataclass(frozen=True)
class Way:
    """How far a training goes: at most `steps`, at most `seconds` where they are given.

    It is checked `checks` times, and ends after half of the way when at `patience` checks in a row
    the metric was no better than at one before, or when all was right at three checks in a row.
    """

    steps: int
    learning_rate: float
    checks: int
    patience: int
    seconds: float | None = None

    @property
    def every(self) -> int:
        """Steps from one check to the next."""
        return max(1, self.steps // self.checks)

    def share(self, number: int, seconds: float) -> float:
        """Return how much of it is behind step `number` after so many seconds, 0 to 1."""
        shares = [number / self.steps]
        if self.seconds is not None:
            shares.append(seconds / max(self.seconds, 1e-9))
        return min(1.0, max(shares))

    def rate(self, share: float) -> float:
        """Return the learning rate there: a tenth of the way up, then a cosine down to zero."""
        if share < _WARMUP:
            return self.learning_rate * share / _WARMUP
        return self.learning_rate * (1 + math.cos(math.pi * (share - _WARMUP) / (1 - _WARMUP))) / 2


class Fit(Generic[Tree, Data]):
    """A training under way: its parameters, its optimizer, the best state so far.

    `judge` says how good parameters are; `batches` come in parts, one or more, whose losses add up
    to the batch's own, each done with before the next.
    """

    def __init__(
        self,
        loss: Callable[[Tree, Data], mx.array],
        parameters: Tree,
        begin: Check,
        judge: Callable[[Tree], Check],
        way: Way,
        kept: Checkpoints | None = None,
    ) -> None:
        self.parameters, self.best = parameters, parameters
        self.number = self.best_step = 0
        self.best_check = begin  # how good the parameters are as they are given
        self.curve: list[dict[str, Any]] = []  # a row for every step
        self._loss, self._judge, self._way, self._kept = mx.value_and_grad(loss), judge, way, kept
        self._seconds = 0.0
        self._optimizer = optim.Adam(learning_rate=0.0, bias_correction=True)
        self._optimizer.init(parameters)
        if kept and (found := kept.load(self._trees())):
            self._restore(*found)

    def run(
        self, batches: Iterable[Sequence[Data]], report: Callable[[TrainingStep], None]
    ) -> tuple[int, Tree]:
        """Train to the end; return the best step and its parameters, and tell of every step.

        `batches` begin at the first, also where a run goes on. CompileError if a loss is
        not finite.
        """
        for parts in islice(batches, self.number, None):
            if self._ended():
                break
            report(self._step(parts))
        return self.best_step, self.best

    def _step(self, parts: Sequence[Data]) -> TrainingStep:
        start, before = time.perf_counter(), self._seconds
        self.number += 1
        rate = self._way.rate(self._way.share(self.number, before))
        self._optimizer.learning_rate = rate
        loss, gradients = add_up(self._loss(self.parameters, part) for part in parts)
        check_finite(loss, self.number, self._way.learning_rate)
        self.parameters = self._optimizer.apply_gradients(gradients, self.parameters)
        mx.eval(self.parameters, self._optimizer.state)
        self._seconds = before + time.perf_counter() - start
        check = None
        share = self._way.share(self.number, self._seconds)
        if self.number % self._way.every == 0 or share >= 1:
            check = self._check()
            self._seconds = before + time.perf_counter() - start
        row = {"step": self.number, "loss": loss, "seconds": round(self._seconds, 3)}
        self.curve.append(row | {"held_out": asdict(check)} if check else row)
        if check and self._kept:
            self._kept.save(self._trees(), self._record())
        return TrainingStep(self.number, loss, share, check, self.best_step)

    def _check(self) -> Check:
        check = self._judge(self.parameters)
        check_finite(check.loss, self.number, self._way.learning_rate)
        if check.rank > self.best_check.rank:
            self.best_check, self.best_step, self.best = check, self.number, self.parameters
        return check

    def _ended(self) -> bool:
        share = self._way.share(self.number, self._seconds)
        told = [row["held_out"]["metric"] for row in self.curve if "held_out" in row]
        learned = len(told) >= _LEARNED and set(told[-_LEARNED:]) == {1.0}
        waited = len(told) - 1 - told.index(max(told)) if told else 0
        return share >= 1 or learned or (share >= _FREE and waited >= self._way.patience)

    def _trees(self) -> list[Any]:
        return [self.parameters, self.best, self._optimizer.state]

    def _record(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "seconds": self._seconds,
            "best_step": self.best_step,
            "best_check": asdict(self.best_check),
            "curve": self.curve,
        }

    def _restore(self, trees: list[Any], record: dict[str, Any]) -> None:
        self.parameters, self.best, self._optimizer.state = trees
        self.number, self._seconds = record["number"], record["seconds"]
        self.best_step, self.curve = record["best_step"], record["curve"]
        self.best_check = Check(**record["best_check"])


def add_up(parts: Iterable[tuple[mx.array, Tree]]) -> tuple[float, Tree]:
    """Return the sums of losses and of gradients, each part computed before the next is asked."""
    found, gradients = 0.0, None
    for loss, more in parts:
        gradients = more if gradients is None else tree_map(mx.add, gradients, more)
        mx.eval(loss, gradients)
        found += float(loss)
    assert gradients is not None
    return found, gradients


def check_finite(loss: float, number: int, learning_rate: float) -> None:
    """Raise CompileError unless the loss of a step is a number."""
    if not math.isfinite(loss):
        raise CompileError(
            f"training diverged: the loss of step {number} is {loss}",
            hint=f"Lower the learning rate; it was {learning_rate:g}.",
        )
