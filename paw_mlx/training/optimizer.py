"""Adam at two rates, with a state that can be written and taken up again."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import mlx.core as mx
import mlx.optimizers as optim
from mlx.utils import tree_flatten

from .mapper import Arrays
from .recipe import CompilerRecipe

_BETAS = [0.9, 0.99]
_CLIP = 1.0  # the largest norm of a gradient
_MAPPER_SHARE = 0.3  # of the learning rate: trunk and head feed every coefficient at once


class Optimizer:
    """Adam; what feeds every coefficient at once learns at a share of the rate."""

    def __init__(self, recipe: CompilerRecipe) -> None:
        rates = recipe.learning_rate, _MAPPER_SHARE * recipe.learning_rate
        self._adams = [
            optim.Adam(
                learning_rate=schedule(recipe.steps, rate), betas=_BETAS, bias_correction=True
            )
            for rate in rates
        ]

    def init(self, arrays: Arrays) -> None:
        """Make the state of these arrays."""
        for adam, part in zip(self._adams, self._divide(arrays), strict=True):
            adam.init(part)

    def apply(self, gradients: Arrays, arrays: Arrays) -> Arrays:
        """Return the arrays after a step."""
        parts = zip(self._adams, self._divide(gradients), self._divide(arrays), strict=True)
        return {n: a for adam, g, part in parts for n, a in adam.apply_gradients(g, part).items()}

    @property
    def state(self) -> Arrays:
        """The state, under names that are no others."""
        return {
            f"{number}.{name}": array
            for number, adam in enumerate(self._adams)
            for name, array in cast(list[tuple[str, mx.array]], tree_flatten(adam.state))
        }

    @state.setter
    def state(self, state: Arrays) -> None:
        for number, adam in enumerate(self._adams):
            # Not `tree_unflatten`: an array's name has dots, and is no path.
            adam.state = {
                name: {part: state[f"{number}.{name}.{part}"] for part in value}
                if isinstance(value, dict)
                else state[f"{number}.{name}"]
                for name, value in adam.state.items()
            }

    @staticmethod
    def _divide(arrays: Arrays) -> tuple[Arrays, Arrays]:
        slow = {n: a for n, a in arrays.items() if n.startswith(("trunk", "coeff_head"))}
        return {n: a for n, a in arrays.items() if n not in slow}, slow


def schedule(steps: int, learning_rate: float) -> Callable[[mx.array], mx.array]:
    """Make a schedule: a tenth of the steps to warm up, then a cosine down to zero."""
    warmup = max(1, steps // 10)
    rise = optim.linear_schedule(learning_rate / warmup, learning_rate, warmup)
    fall = optim.cosine_decay(learning_rate, max(1, steps - warmup))
    return optim.join_schedules([rise, fall], [warmup])


def clip(gradients: Arrays) -> Arrays:
    """Return gradients, made smaller together where their norm exceeds 1."""
    squares = [(array.astype(mx.float32) ** 2).sum() for array in gradients.values()]
    norm = mx.sqrt(mx.stack(squares).sum())
    share = mx.minimum(_CLIP / mx.maximum(norm, 1e-9), 1.0)
    return {name: share * array for name, array in gradients.items()}
