"""How sure a share of cases is, and the difference of two: their intervals."""

from __future__ import annotations

import math

Z = 1.959964  # of 95 %, two-sided


def wilson(correct: int, num: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of the share `correct` of `num`."""
    share, z2 = correct / num, Z * Z
    middle = (share + z2 / (2 * num)) / (1 + z2 / num)
    half = Z / (1 + z2 / num) * math.sqrt(share * (1 - share) / num + z2 / (4 * num * num))
    return max(0.0, middle - half), min(1.0, middle + half)


def difference_at(z: float, num: int, only_a: int, only_b: int) -> float:
    """Return the difference, B less A, -1 to 1, at which `score_z`, which falls as it grows, is z.

    At ±1.96 these are the ends of Tango's 95 % interval of the difference of two accuracies.
    """
    low, high = -1.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        is_above = score_z(num, only_a, only_b, middle) > z
        low, high = (middle, high) if is_above else (low, middle)
    return low


def score_z(num: int, only_a: int, only_b: int, difference: float) -> float:
    """Return Tango's statistic: how far the cases are above a true `difference`, as a normal's z.

    Z = (c - b - nd) / sqrt(n (2q + d(1 - d))), where b and c count what only the one and the other
    gets right, and q is the likeliest share of b if the difference is d.
    """
    b, c, d = only_a, only_b, difference
    linear = (2 * num - c + b) * d - b - c
    root = math.sqrt(max(0.0, linear**2 + 8 * num * b * d * (1 - d)))
    share = (root - linear) / (4 * num)
    variance = num * (2 * share + d * (1 - d))
    if variance <= 1e-12:
        return math.copysign(math.inf, c - b - num * d) if c - b - num * d else 0.0
    return (c - b - num * d) / math.sqrt(variance)
