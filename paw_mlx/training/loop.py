"""The steps of a training, whatever is trained.

Parameters are a tree of arrays: a dict, as of LoRA pairs, or what an `nn.Module` calls its
trainable parameters. Adam lowers the loss of one batch after another. Now and then the
parameters are judged by what they are not trained on, and the best of these states is kept.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import mlx.core as mx
import mlx.optimizers as optim
from mlx.utils import tree_map

from ..errors import CompileError

Tree = TypeVar("Tree", bound=dict[str, Any])  # of arrays
Data = TypeVar("Data")  # a part of a batch, as the loss takes it
Row = TypeVar("Row")


@dataclass(frozen=True)
class TrainingStep:
    """What a finished step reports; `held_out_loss` at checks only."""

    number: int
    loss: float
    held_out_loss: float | None


def fit(
    loss: Callable[[Tree, Data], mx.array],
    parameters: Tree,
    batches: Iterable[Sequence[Data]],
    judge: Callable[[Tree], float],
    report: Callable[[TrainingStep], None],
    *,
    steps: int,
    learning_rate: float,
    checks: int,
) -> tuple[int, Tree]:
    """Train for `steps` steps, a batch each; return the best step and its parameters.

    A batch comes in parts, one or more, whose losses add up to its own; each is done with
    before the next. `judge` gives the held-out loss, by which the best is chosen: `checks` times
    or once more, and after the last step. `batches` may be endless. CompileError if a loss is not
    finite.
    """
    optimizer = optim.Adam(learning_rate=schedule(steps, learning_rate), bias_correction=True)
    differentiate = mx.value_and_grad(loss)
    best = (math.inf, 0, parameters)
    every = max(1, steps // checks)
    for number, parts in zip(range(1, steps + 1), batches, strict=False):
        found, gradients = add_up(differentiate(parameters, part) for part in parts)
        check_finite(found, number, learning_rate)
        parameters = optimizer.apply_gradients(gradients, parameters)
        mx.eval(parameters, optimizer.state)
        held_out_loss = None
        if number % every == 0 or number == steps:
            held_out_loss = judge(parameters)
            check_finite(held_out_loss, number, learning_rate)
            best = min(best, (held_out_loss, number, parameters), key=lambda state: state[0])
        report(TrainingStep(number, found, held_out_loss))
    return best[1], best[2]


def add_up(parts: Iterable[tuple[mx.array, Tree]]) -> tuple[float, Tree]:
    """Return the sums of losses and of gradients, each part computed before the next is asked."""
    found, gradients = 0.0, None
    for loss, more in parts:
        gradients = more if gradients is None else tree_map(mx.add, gradients, more)
        mx.eval(loss, gradients)
        found += float(loss)
    assert gradients is not None
    return found, gradients


def schedule(steps: int, learning_rate: float) -> Callable[[mx.array], mx.array]:
    """Make a schedule: a tenth of the steps to warm up, then a cosine down to zero."""
    warmup = max(1, steps // 10)
    rise = optim.linear_schedule(learning_rate / warmup, learning_rate, warmup)
    fall = optim.cosine_decay(learning_rate, max(1, steps - warmup))
    return optim.join_schedules([rise, fall], [warmup])


def shuffled(rows: Sequence[Row], size: int, seed: int) -> Iterator[list[Row]]:
    """Yield batches without end, of at least `size` rows; an epoch leaves out less than one.

    Sorting by length would save padding, but length tells of the label, and then so does a batch.
    """
    chance = random.Random(seed)
    while True:
        order = chance.sample(rows, len(rows))
        for start in range(0, len(order) - size + 1, size):
            yield order[start : start + size]


def check_finite(loss: float, number: int, learning_rate: float) -> None:
    """Raise CompileError unless the loss of a step is a number."""
    if not math.isfinite(loss):
        raise CompileError(
            f"training diverged: the loss of step {number} is {loss}",
            hint=f"Lower the learning rate; it was {learning_rate:g}.",
        )
