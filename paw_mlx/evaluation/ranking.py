"""How good an order is: NDCG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def ndcg(groups: Iterable[Sequence[tuple[float, float]]]) -> float | None:
    """Return the mean NDCG, 0 to 1, of groups of (score, grade); None if no group has one.

    NDCG is the DCG of the group by falling score over that of the best order; equal scores stay
    in their order. DCG = sum over places i from 1 of grade / log2(i + 1): Järvelin and
    Kekäläinen, ACM TOIS 20 (2002), with grades as gains and the discount of trec_eval and
    scikit-learn. A group without a grade above 0 has no best order, and is left out.
    """
    shares = []
    for group in groups:
        best = _dcg(sorted((grade for _, grade in group), reverse=True))
        if best > 0:
            ranked = sorted(group, key=lambda row: -row[0])
            shares.append(_dcg([grade for _, grade in ranked]) / best)
    return sum(shares) / len(shares) if shares else None


def _dcg(grades: Sequence[float]) -> float:
    return sum(grade / math.log2(place + 1) for place, grade in enumerate(grades, 1))
