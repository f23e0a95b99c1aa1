"""How far two samples are apart, and how likely chance alone is to part them so.

Standard library alone; `tests/test_shift.py` holds them against scipy's numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from heapq import heapify, heappop, heapreplace

_MIN_EXPECTED = 5.0  # of a cell, for chi-square to hold: Cochran, Biometrics 10 (1954)


def smirnov_distance(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the greatest distance, 0 to 1, between the distributions of two samples.

    D = max |F_a(x) - F_b(x)|: the two-sided statistic of Kolmogorov and Smirnov.
    """
    a, b = sorted(a), sorted(b)
    i = j = 0
    distance = 0.0
    while i < len(a) and j < len(b):
        value = min(a[i], b[j])
        while i < len(a) and a[i] == value:
            i += 1
        while j < len(b) and b[j] == value:
            j += 1
        distance = max(distance, abs(i / len(a) - j / len(b)))
    return distance


def smirnov_p(distance: float, num_a: int, num_b: int) -> float:
    """Return how likely samples of one distribution are so far apart, at least.

    The limit for many: Q(D sqrt(nm / (n + m))), Q(t) = 2 sum (-1)^(k-1) exp(-2 k^2 t^2), Smirnov,
    Annals of Mathematical Statistics 19 (1948). Too large for few values, and for equal ones.
    """
    t = distance * math.sqrt(num_a * num_b / (num_a + num_b))
    if t < 0.2:  # where the sum needs many terms, and is 1 within 1e-12
        return 1.0
    total = sum((-1) ** (k - 1) * math.exp(-2 * k * k * t * t) for k in range(1, 101))
    return min(1.0, 2 * total)


def smallest_distance(num_a: int, num_b: int, p: float) -> float:
    """Return which distance of distributions has this p, near enough: more than it shows.

    The first term of `smirnov_p`, solved: sqrt(ln(2 / p) / 2) sqrt((n + m) / (nm)).
    """
    if not (num_a and num_b):
        return math.inf
    return math.sqrt(math.log(2 / p) / 2 * (num_a + num_b) / (num_a * num_b))


def total_variation(a: Sequence[int], b: Sequence[int]) -> float:
    """Return the total variation distance, 0 to 1, of counts of the same categories.

    Half the sum of |share in a - share in b|: the share that would have to change category.
    """
    num_a, num_b = sum(a), sum(b)
    return sum(abs(x / num_a - y / num_b) for x, y in zip(a, b, strict=True)) / 2


def counts_p(a: Sequence[int], b: Sequence[int]) -> float | None:
    """Return how likely counts of one distribution differ so; None if there is one category.

    Pearson's chi-square of a 2 by k table, without a correction. While a sample would have fewer
    than 5 of a category, the two smallest are pooled; of the last two it is Fisher's exact test.
    """
    num_a, num_b = sum(a), sum(b)
    pairs = zip(a, b, strict=True)  # of equal sums, those are pooled that come first
    cells = [(x + y, place, x, y) for place, (x, y) in enumerate(pairs) if x + y]
    if len(cells) < 2:
        return None
    heapify(cells)
    fewest = _MIN_EXPECTED * (num_a + num_b) / min(num_a, num_b)
    while len(cells) > 2 and cells[0][0] < fewest:
        total, _, x, y = heappop(cells)
        more, place, u, v = cells[0]
        heapreplace(cells, (total + more, place, x + u, y + v))
    pooled = [(x, y) for _, _, x, y in cells]
    if cells[0][0] < fewest:
        return _fisher_p(*pooled[0], *pooled[1])
    return chi_square_p(_chi_square(pooled, num_a, num_b), len(pooled) - 1)


def chi_square_p(statistic: float, freedom: int) -> float:
    """Return how likely a chi-square of so many degrees of freedom is at least so large.

    The finite sums of Abramowitz and Stegun, 26.4.4 (odd) and 26.4.5 (even).
    """
    half = statistic / 2
    if half <= 0:
        return 1.0
    start = 0.5 if freedom % 2 else 0.0
    terms = (
        math.exp((start + k) * math.log(half) - half - math.lgamma(start + k + 1))
        for k in range(freedom // 2)
    )
    return min(1.0, (math.erfc(math.sqrt(half)) if freedom % 2 else 0.0) + math.fsum(terms))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for there being several, in their order.

    Holm, Scandinavian Journal of Statistics 6 (1979): the i-th smallest of m times m - i + 1, and
    none less than one before it.
    """
    adjusted, least = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        least = max(least, min(1.0, p_values[index] * (len(p_values) - place)))
        adjusted[index] = least
    return adjusted


def _chi_square(pairs: Sequence[tuple[int, int]], num_a: int, num_b: int) -> float:
    share = num_a / (num_a + num_b)
    return sum(
        (x - (x + y) * share) ** 2 / ((x + y) * share)
        + (y - (x + y) * (1 - share)) ** 2 / ((x + y) * (1 - share))
        for x, y in pairs
    )


def _fisher_p(x: int, y: int, u: int, v: int) -> float:
    """Return Fisher's p of two categories, x and u of a sample and y and v of the other.

    The probability, with these margins, of all tables that are no likelier than this one.
    """

    def log_of(k: int) -> float:
        cells = (k, x + y - k, x + u - k, v - x + k)
        return -sum(math.lgamma(cell + 1) for cell in cells)

    places = range(max(0, x - v), min(x + y, x + u) + 1)
    logs = [log_of(k) for k in places]
    most = max(logs)
    likely = [math.exp(log - most) for log in logs]
    mine = math.exp(log_of(x) - most)
    return min(
        1.0, math.fsum(one for one in likely if one <= mine * (1 + 1e-7)) / math.fsum(likely)
    )
