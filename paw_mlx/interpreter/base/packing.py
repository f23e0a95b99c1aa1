"""Packed weights: MLX's affine form, w = scale * code + bias, in groups along a row.

A packed layer has three tensors, its `PARTS`: codes (rows, words) in uint32, and scales and
biases (rows, groups). Bits and group size follow from their shapes and the layer's width.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ...errors import FormatError, OptionError
from .tensors import Tensors

PACKED_BITS, GROUP_SIZES = (4, 6, 8), (32, 64, 128)
PARTS = ("weight", "scales", "biases")
Packing = dict[str, Any]  # group_size and bits, as MLX's functions take them


def check_group_size(group_size: int) -> None:
    """Raise OptionError for a group size that MLX does not have."""
    if group_size not in GROUP_SIZES:
        raise OptionError(f"group_size must be one of 32, 64 or 128, not {group_size}")


def infer_packing(path: str, layer: nn.Module, parts: Tensors) -> Packing | None:
    """Return group size and bits of a packed layer, from shapes; None if it is dense.

    The logical width comes from the model: (4 bits, 64) and (8 bits, 32) pack alike.
    FormatError if a part is missing, or MLX has no such packing.
    """
    if "scales" not in parts:
        return None
    shapes = [parts[part].shape for part in PARTS if part in parts]
    if len(shapes) < len(PARTS) or 0 in shapes[0] + shapes[1]:
        raise FormatError(f"{path} is packed, but its codes, scales or biases are missing")
    width = layer.weight.shape[-1]
    bits, group_size = shapes[0][-1] * 32 // width, width // shapes[1][-1]
    if bits not in (2, 3, 4, 5, 6, 8) or group_size not in GROUP_SIZES:
        raise FormatError(f"{path} is packed in {bits} bits and groups of {group_size}")
    rows, (words, groups) = shapes[0][:-1], (bits * width // 32, width // group_size)
    if shapes != [(*rows, words), (*rows, groups), (*rows, groups)]:
        raise FormatError(f"{path} is packed in parts that do not fit together: {shapes}")
    return {"group_size": group_size, "bits": bits}


def is_matrix(layer: nn.Module) -> bool:
    """Return whether a layer's weight is one that may be packed."""
    return isinstance(layer, nn.Linear | nn.Embedding)


def dense_shapes(path: str, parts: Tensors, packing: Packing | None) -> dict[str, tuple[int, ...]]:
    """Return the shapes that a layer's tensors have when it is dense."""
    shapes = {f"{path}.{part}": tensor.shape for part, tensor in parts.items()}
    if packing:
        *rows, groups = shapes.pop(f"{path}.scales")
        del shapes[f"{path}.biases"]
        shapes[f"{path}.weight"] = (*rows, groups * packing["group_size"])
    return shapes


def pack(parts: Tensors, packing: Packing) -> Tensors:
    """Return a dense layer's tensors, its weight packed."""
    made = mx.quantize(parts["weight"], **packing)
    return parts | dict(zip(PARTS, made, strict=True))


def unpack(parts: Tensors, packing: Packing, dtype: mx.Dtype) -> Tensors:
    """Return a packed layer's tensors, its weight decoded by arithmetic in `dtype`."""
    codes, *affine = (parts[part] for part in PARTS)
    scales, biases = (part.astype(dtype) for part in affine)
    dense = {part: tensor for part, tensor in parts.items() if part not in PARTS}
    return dense | {"weight": mx.dequantize(codes, scales, biases, **packing)}


def all_finite(tensors: Iterable[mx.array]) -> bool:
    """Return whether floats hold no NaN or infinity, without the memory that isfinite takes."""
    floats = [tensor for tensor in tensors if tensor.dtype != mx.uint32]
    ends = [end.astype(mx.float32) for t in floats for end in (t.max(), t.min())]
    return bool(mx.isfinite(mx.stack(ends)).all()) if ends else True
