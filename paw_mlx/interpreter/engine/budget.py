"""One budget of memory for a process, shared equally by the bases that are loaded.

Processes that `divide` it have one budget together, each an equal part.

A third of a base's share goes to adapters, a third to evaluated prefixes, a third to rows; the
base's own weights are not counted. A share shrinks when another base is loaded, and what is
beyond it then is given back when the base rests.
"""

from __future__ import annotations

from weakref import finalize

import mlx.core as mx

from ...device import on_gpu

_USES = 3
_RECOMMENDED_SHARE = 3 / 8  # of the working set that a GPU recommends
_UNKNOWN_BYTES = 6_000_000_000  # where the device does not say


class Share:
    """One base's part of the budget, until it is released or forgotten."""

    def __init__(self) -> None:
        # Without a lock: a finalizer may run in the middle, and would wait for itself.
        _shares[id(self)] = None
        self._release = finalize(self, _shares.pop, id(self), None)

    def bytes(self) -> int:
        """Return what adapters, prefixes or rows may take, each, at the moment."""
        advised = mx.device_info().get("max_recommended_working_set_size") if on_gpu() else None
        total = int(int(advised) * _RECOMMENDED_SHARE) if advised else _UNKNOWN_BYTES
        return total // (_USES * _num_processes * max(1, len(_shares)))

    def release(self) -> None:
        """Leave this part to the others. Releasing twice is fine."""
        self._release()


def divide(num_processes: int) -> None:
    """Leave the other parts of the budget to the other processes."""
    global _num_processes
    _num_processes = num_processes


_num_processes = 1
_shares: dict[int, None] = {}  # of the shares there are, by identity
