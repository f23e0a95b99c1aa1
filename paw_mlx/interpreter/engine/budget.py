"""One budget of memory for a process, shared equally by the bases that are loaded.

A third of a base's share goes to adapters, a third to evaluated prefixes, a third to rows; the
base's own weights are not counted. A share shrinks when another base is loaded, and what is
beyond it then is given back when the base rests.
"""

from __future__ import annotations

import threading
from weakref import WeakSet

import mlx.core as mx

from ...device import on_gpu

_USES = 3
_RECOMMENDED_SHARE = 3 / 8  # of the working set that a GPU recommends
_UNKNOWN_BYTES = 6_000_000_000  # where the device does not say


class Share:
    """One base's part of the budget, until it is released or forgotten."""

    def __init__(self) -> None:
        with _lock:
            _shares.add(self)

    def bytes(self) -> int:
        """Return what adapters, prefixes or rows may take, each, at the moment."""
        advised = mx.device_info().get("max_recommended_working_set_size") if on_gpu() else None
        total = int(int(advised) * _RECOMMENDED_SHARE) if advised else _UNKNOWN_BYTES
        with _lock:
            return total // (_USES * max(1, len(_shares)))

    def release(self) -> None:
        """Leave this part to the others. Releasing twice is fine."""
        with _lock:
            _shares.discard(self)


_shares: WeakSet[Share] = WeakSet()
_lock = threading.Lock()
