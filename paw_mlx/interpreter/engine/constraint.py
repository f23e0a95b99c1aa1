"""What a row may say next: the place in a step where an output's type has its say.

A constraint knows the tokens so far and answers for those that follow them. In a step of the
batch it comes up three times, and nowhere else:

    drafts   what it is sure of is a draft that cannot fail; one from the input may go beyond it
    masks    best and drawn tokens are chosen among those allowed, behind each token of a draft
    push     it hears the tokens that a row took

What an output has to begin with is evaluated with the prompt, and an end that is sure takes no
step. Steps are not computed ahead of rows that have one: their masks wait for the tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import mlx.core as mx
import numpy as np


class Constraint(Protocol):
    """What one row may say. Its state moves with `push` alone."""

    def forced(self, limit: int) -> list[int]:
        """Return the tokens that alone can come now, in order, at most `limit`; the end, too."""
        ...

    def allowed(self, draft: Sequence[int]) -> np.ndarray:
        """Return which tokens may follow each part of a draft: bool (1 + len(draft), V).

        Row i is for the first i tokens of it; after one that is not allowed nothing matters.
        V may be another than the logits': what they have beyond it is not allowed.
        """
        ...

    def push(self, tokens: Sequence[int]) -> None:
        """Hear the tokens that the row took, its ending one included."""
        ...


def mask(
    logits: mx.array, constraints: Sequence[Constraint | None], drafts: Sequence[Sequence[int]] = ()
) -> mx.array:
    """Set the logits of what may not be said to -inf; logits (B, V), or (B, T, V) with drafts.

    `drafts` are the rows' own, of at most T - 1 tokens each. Without constraints nothing is done.
    """
    if all(constraint is None for constraint in constraints):
        return logits
    mx.async_eval(logits)  # on their way while the masks are made
    num_tokens = logits.shape[-1]
    may = np.ones(logits.shape, bool).reshape(len(logits), -1, num_tokens)
    for row, constraint in enumerate(constraints):
        if constraint is not None:
            allowed = constraint.allowed(drafts[row] if drafts else ())[:, :num_tokens]
            may[row, : len(allowed), : allowed.shape[1]] = allowed
            may[row, : len(allowed), allowed.shape[1] :] = False
    return mx.where(mx.array(may.reshape(logits.shape)), logits, -mx.inf)
