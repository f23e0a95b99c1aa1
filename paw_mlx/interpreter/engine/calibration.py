"""How many drafted tokens pay on this machine: measured once, and kept.

A step over w tokens gives more of them the wider it is, and on a GPU takes longer in leaps: MLX's
kernels for a few vectors serve 5 at a time, and the oldest chips have none for packed weights. Of
a draft each token is right with some probability p, so a step of w tokens gives

    (1 - p ** w) / (1 - p)

of them, and the width that gives the most a second is chosen. Without a GPU a wide step hardly
costs more than a narrow one, and nothing is measured.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx

from ... import settings
from ...device import on_gpu
from ...errors import PawError
from ...files import replacing
from ..models.load import Base
from .draft import MAX_DRAFT
from .kv import KV

_WIDTHS = (1, 5, 1 + MAX_DRAFT)  # the last token and a draft
_UNKNOWN_DRAFT = 4  # on a GPU that was not measured
_RIGHT = 0.8  # how likely a drafted token is right, where drafts are made at all
_CONTEXT_TOKENS, _ROUNDS = 64, 5


def read_max_draft(base: Base) -> tuple[int, bool]:
    """Return how many tokens to draft at most, and whether it is known, or only safe."""
    if not on_gpu():
        return MAX_DRAFT, True
    found = _read_kept().get(_key(base))
    if isinstance(found, int) and found + 1 in _WIDTHS:
        return found, True
    return _UNKNOWN_DRAFT, False


def measure_max_draft(base: Base) -> int:
    """Measure how many tokens pay, keep it if the disk allows, and return it.

    Takes some tens of steps of the bare base.
    """
    kv = KV(base.model.num_layers)
    mx.eval(base.model.hidden(mx.zeros((1, _CONTEXT_TOKENS), mx.int32), kv), kv.arrays)
    seconds = {width: _time_step(base, kv, width) for width in _WIDTHS}
    # The tokens of a step, 1 + p + p² …, but for a factor that all widths share.
    best = max(_WIDTHS, key=lambda w: (1 - _RIGHT**w) / seconds[w])
    known = _read_kept() | {_key(base): best - 1}
    with suppress(PawError), replacing(_place()) as temporary:
        temporary.write_text(json.dumps(known), encoding="utf-8")
    return best - 1


def _read_kept() -> dict[str, Any]:
    """Read what was measured here; nothing where the file is none of ours."""
    with suppress(OSError, ValueError, RecursionError):
        kept = json.loads(_place().read_text(encoding="utf-8"))
        return kept if isinstance(kept, dict) else {}
    return {}


def _time_step(base: Base, kv: KV, width: int) -> float:
    """Return the least seconds of a step over `width` tokens."""
    tokens, taken = mx.zeros((1, width), mx.int32), []
    for _ in range(1 + _ROUNDS):  # the first one compiles kernels
        start = time.perf_counter()
        mx.eval(base.model.logits(base.model.hidden(tokens, kv.fork())))
        taken.append(time.perf_counter() - start)
    return min(taken[1:])


def _place() -> Path:
    return settings.cache_dir() / "drafts.json"


def _key(base: Base) -> str:
    info = mx.device_info()
    chip = info.get("device_name") or info.get("architecture")
    return f"{chip}, mlx {version('mlx')}, {base.profile.name}, {base.form}"
