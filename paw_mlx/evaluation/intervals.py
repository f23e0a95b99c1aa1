"""How sure a share of cases is: its 95 % interval."""

from __future__ import annotations

import math

Z = 1.959964  # of 95 %, two-sided


def wilson(correct: int, num: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of the share `correct` of `num`."""
    share, z2 = correct / num, Z * Z
    middle = (share + z2 / (2 * num)) / (1 + z2 / num)
    half = Z / (1 + z2 / num) * math.sqrt(share * (1 - share) / num + z2 / (4 * num * num))
    return max(0.0, middle - half), min(1.0, middle + half)
