"""The best of many, in order: what a ranking comes to, of texts or of rows."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import TypeVar

from ..errors import OptionError

Item = TypeVar("Item")


def take_best(items: Iterable[Item], top: int | None, score: Callable[[Item], float]) -> list[Item]:
    """Return items by falling score, those with the same one in order.

    `top` of them at most, and no more are held; None for all. OptionError for a top below 1,
    before the first is taken.
    """
    if top is None:
        return sorted(items, key=lambda item: -score(item))
    if top < 1:
        raise OptionError(f"top must be at least 1, not {top}")
    return heapq.nlargest(top, items, key=score)
