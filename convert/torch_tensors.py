"""The tensors in a `torch.save` pickle: described by what it calls, and checked, not read.

Six globals are known, which are names here and nobody's functions; a training checkpoint may
have those of tensors of any dtype besides, and of parameters with a state.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from paw_mlx.convert.pickle_machine import Global, kind
from paw_mlx.errors import FormatError, listed
from paw_mlx.formats.untrusted import shown

_MAX_DIMENSIONS = 32
_MAX_ELEMENTS = 1 << 40
# The dtypes that are read, as numpy has them.
NUMPY: Mapping[str, np.dtype[Any]] = {
    "f32": np.dtype("<f4"),
    "f16": np.dtype("<f2"),
    "bf16": np.dtype("<u2"),
}
STORAGES = {
    Global("torch.FloatStorage"): "f32",
    Global("torch.HalfStorage"): "f16",
    Global("torch.BFloat16Storage"): "bf16",
}
# What a checkpoint holds besides: described, and never read.
_UNREAD = {
    Global("torch.DoubleStorage"): "f64",
    Global("torch.LongStorage"): "i64",
    Global("torch.IntStorage"): "i32",
    Global("torch.ShortStorage"): "i16",
    Global("torch.CharStorage"): "i8",
    Global("torch.ByteStorage"): "u8",
    Global("torch.BoolStorage"): "bool",
    Global("torch.ComplexFloatStorage"): "c64",
    Global("torch.ComplexDoubleStorage"): "c128",
}
DTYPES = STORAGES | _UNREAD


@dataclass(frozen=True)
class Storage:
    """A member `data/<key>` of the archive, and how many elements it has."""

    dtype: str
    key: str
    num_elements: int


class TensorInfo(NamedTuple):
    """A tensor, by what it is; the rest says where, in elements of its storage."""

    dtype: str  # f32, f16 or bf16; in a checkpoint also one that is not read, as i64
    shape: tuple[int, ...]
    storage: Storage
    offset: int
    strides: tuple[int, ...]

    @property
    def span(self) -> int:
        """How many elements of the storage lie from the tensor's first to its last."""
        if 0 in self.shape:
            return 0
        return 1 + sum((d - 1) * s for d, s in zip(self.shape, self.strides, strict=True))


def read_storage(pid: object) -> Storage:
    """Return what a persistent id refers to."""
    match pid:
        case ("storage", Global() as name, str(key), str(), int(count)) if name in DTYPES:
            if not re.fullmatch(r"[A-Za-z0-9_]{1,64}", key):
                raise FormatError(f"data.pkl refers to a storage {shown(key)}, and keys are plain")
            if count < 0:
                raise FormatError(f"data.pkl has a storage of {count} elements")
            return Storage(DTYPES[name], key, count)
    raise FormatError(f"data.pkl has {kind(pid)} for a persistent id, and no storage's")


def _make_ordered_dict(args: tuple[object, ...]) -> dict[object, object]:
    if args:
        raise FormatError(f"data.pkl makes an OrderedDict of {len(args)} arguments, not of none")
    return {}


def _make_tensor(args: tuple[object, ...]) -> TensorInfo:
    """Describe what `_rebuild_tensor_v2` makes; metadata would change its values (neg, conj)."""
    *wanted, metadata = args if len(args) == 7 else (*args, None)
    if metadata:
        raise FormatError(f"data.pkl has a tensor with metadata: {kind(metadata)}")
    match wanted:
        case [Storage() as storage, int(offset), tuple(shape), tuple(strides), bool(), dict()]:
            _check_numbers(offset, shape, strides)
            info = TensorInfo(storage.dtype, shape, storage, offset, strides)
            _check_extent(info)
            return info
    raise FormatError(
        "data.pkl makes a tensor, and not of a storage, an offset, a shape and strides: "
        + (listed([kind(arg) for arg in args]) or "nothing")
    )


def _check_numbers(offset: int, shape: tuple[object, ...], strides: tuple[object, ...]) -> None:
    dimensions = max(len(shape), len(strides))
    if len(shape) != len(strides) or dimensions > _MAX_DIMENSIONS:
        raise FormatError(
            f"data.pkl has a tensor of {len(shape)} dimensions and {len(strides)} strides "
            f"(limit {_MAX_DIMENSIONS})"
        )
    if wrong := [n for n in (offset, *shape, *strides) if type(n) is not int or n < 0]:
        raise FormatError(
            "data.pkl has a tensor whose offset, shape or strides are "
            f"{listed([kind(n) for n in wrong])}, not counts"
        )


def _check_extent(info: TensorInfo) -> None:
    """Raise FormatError unless every element is in the storage, and none is there for several."""
    count, stored = math.prod(info.shape), info.storage.num_elements
    where = f"data/{info.storage.key}, which has {stored}"
    if count > stored:
        raise FormatError(
            f"data.pkl has a tensor of shape {info.shape}, {count} elements, in {where}"
        )
    if math.prod(max(size, 1) for size in info.shape) > _MAX_ELEMENTS:
        raise FormatError(f"data.pkl has a tensor of shape {info.shape} without elements")
    if count and info.offset + info.span > stored:
        raise FormatError(
            f"data.pkl has a tensor of shape {info.shape} and strides {info.strides} that ends "
            f"with element {info.offset + info.span} of {where}"
        )


def _make_parameter(args: tuple[object, ...]) -> TensorInfo:
    match args:
        case (TensorInfo() as tensor, bool(), dict()):
            return tensor
    raise FormatError("data.pkl makes a parameter of something else than a tensor")


def _make_stateful(args: tuple[object, ...]) -> TensorInfo:
    """Take a parameter with attributes of its own, which are dropped."""
    return _make_parameter(args[:3])


def _make_size(args: tuple[object, ...]) -> tuple[object, ...]:
    match args:
        case (tuple(shape),):
            return shape
    raise FormatError(f"data.pkl makes a torch.Size of {len(args)} arguments, not of a tuple")


CALLS = {
    Global("collections.OrderedDict"): _make_ordered_dict,
    Global("torch._utils._rebuild_tensor_v2"): _make_tensor,
    Global("torch._utils._rebuild_parameter"): _make_parameter,
}
MORE_CALLS = {
    Global("torch._utils._rebuild_parameter_with_state"): _make_stateful,
    Global("torch.Size"): _make_size,
}
