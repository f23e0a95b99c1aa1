"""How many kernels a computation launches on a GPU, counted on any machine.

An array that is not yet evaluated is a graph, and `mx.export_to_dot` writes it down: every
rectangle is an operation, and every one that moves no data (a view) launches nothing. Two
things differ without a GPU and are put right while the graph is built: MLX takes its fast
operations apart, so each is replaced by a single other one of the same shape that no model
uses; and `elementwise.py` leaves its chains plain.

A count is of operations, not of launches measured: attention over a long context takes two
passes, an operation may copy an operand first. It is exact, and so it can be compared.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx

from paw_mlx.device import assume_gpu

VIEWS = frozenset(
    {
        "Broadcast", "Depends", "ExpandDims", "Flatten", "Reshape", "Slice", "Split", "Squeeze",
        "StopGradient", "Transpose", "Unflatten", "View",
    }
)  # fmt: skip
_OPERATION = re.compile(r'label ="([^"]+)", shape=rectangle')


def kernels(build: Callable[[], mx.array]) -> Counter[str]:
    """Count the kernels, by name, of the array that `build` makes and does not evaluate."""
    with tempfile.TemporaryDirectory() as folder, assume_gpu(), _whole_operations():
        path = Path(folder) / "graph.dot"
        mx.export_to_dot(str(path), build())
        found = Counter(_OPERATION.findall(path.read_text()))
    return Counter({name: num for name, num in found.items() if name not in VIEWS})


def _attention(q: mx.array, k: mx.array, v: mx.array, **_: Any) -> mx.array:
    return mx.arctan2(q, mx.broadcast_to(mx.depends(k, v)[:, :1, :1], q.shape))


_WHOLE: dict[str, Callable[..., mx.array]] = {
    "rms_norm": lambda x, *_: mx.erf(x),
    "layer_norm": lambda x, *_: mx.erf(x),
    "rope": lambda x, *_, **__: mx.erfinv(x),
    "scaled_dot_product_attention": _attention,
}


@contextmanager
def _whole_operations() -> Iterator[None]:
    """Let each of MLX's fast operations be one in the graph, as on a GPU."""
    own = {name: getattr(mx.fast, name) for name in _WHOLE}
    try:
        for name, whole in _WHOLE.items():
            setattr(mx.fast, name, whole)
        yield
    finally:
        for name, operation in own.items():
            setattr(mx.fast, name, operation)
