"""`mlx-q4`: MLX's packed 4-bit form, as the exact image of Q4_0 and nothing else.

    weight   uint32 (rows, columns / 8)    eight codes a word, the first in the lowest bits
    scales   f16    (rows, columns / 32)   Q4_0's own
    biases   f16    (rows, columns / 32)   -8 * scale

A code c means scale * c + bias, which is Q4_0's scale * (c - 8). So no number changes on the
way there and back; packed tensors that are no such image are refused.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..adapter import BLOCKS, Matrix
from ..errors import FormatError, OptionError
from .tensors import Later, Raw
from .untrusted import shown

DTYPE = "mlx-q4"
QUANTIZATION = {"group_size": 32, "bits": 4}
PARTS = ("biases", "scales", "weight")
_GROUP, _BLOCK_BYTES = BLOCKS["q4_0"]


def pack(m: Matrix) -> dict[str, Later]:
    """Return the three tensors of a q4_0 matrix; OptionError if -8 * scale leaves f16."""
    rows, groups = m.shape[0], m.shape[1] // _GROUP
    if not np.isfinite(_biases(scales(m))).all():
        largest = 8 * float(np.abs(scales(m)).max())
        raise OptionError(
            f"a weight of {largest:.4g} is too large for {DTYPE}", hint="Write f32 instead."
        )
    return {
        "biases": Later("f16", (rows, groups), 2 * rows * groups, lambda: _biases(scales(m))),
        "scales": Later("f16", (rows, groups), 2 * rows * groups, lambda: scales(m)),
        "weight": Later("u32", (rows, 4 * groups), 16 * rows * groups, lambda: codes(m)),
    }


def unpack(name: str, parts: Mapping[str, Raw]) -> Matrix:
    """Return the q4_0 matrix whose image three tensors are; FormatError if they are of none."""
    weight, factors, biases = (parts[part] for part in ("weight", "scales", "biases"))
    rows, groups = factors.shape if len(factors.shape) == 2 else (0, 0)
    found = [(part.dtype, part.shape) for part in (weight, factors, biases)]
    if not rows * groups or found != [
        ("U32", (rows, 4 * groups)),
        ("F16", (rows, groups)),
        ("F16", (rows, groups)),
    ]:
        raise FormatError(
            f"the packed {shown(name)} is weight, scales and biases of {shown(found, 160)}, "
            f"which is no 4-bit matrix with groups of {_GROUP}"
        )
    scale, bias = (np.frombuffer(part.data, "<f2") for part in (factors, biases))
    if not np.array_equal(_biases(scale), bias):
        raise FormatError(f"the packed {shown(name)} has other biases than -8 times its scales")
    nibbles = np.frombuffer(weight.data, np.uint8).reshape(-1, _GROUP // 2)
    elements = np.stack([nibbles & 15, nibbles >> 4], axis=-1).reshape(-1, _GROUP)
    halves = elements[:, :16] | elements[:, 16:] << 4
    blocks = np.hstack([scale.view(np.uint8).reshape(-1, 2), halves])
    return Matrix("q4_0", (rows, groups * _GROUP), blocks.reshape(rows, groups * _BLOCK_BYTES))


def codes(m: Matrix) -> np.ndarray:
    """Return the codes of a q4_0 matrix: uint32 (rows, columns / 8)."""
    nibbles = m.data.reshape(-1, _BLOCK_BYTES)[:, 2:]
    elements = np.hstack([nibbles & 15, nibbles >> 4])
    return (elements[:, 0::2] | elements[:, 1::2] << 4).view("<u4").reshape(m.shape[0], -1)


def scales(m: Matrix) -> np.ndarray:
    """Return the scales of a q4_0 matrix: float16 (rows, columns / 32)."""
    blocks = m.data.reshape(-1, _BLOCK_BYTES)
    return np.ascontiguousarray(blocks[:, :2]).view("<f2").reshape(m.shape[0], -1)


def _biases(scales: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        return scales * np.float16(-8)
