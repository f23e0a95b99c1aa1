"""PyTorch's weights without PyTorch: the state dict in a `torch.save` ZIP.

Nothing is executed, by construction: the pickle goes through a stack machine that knows the
opcodes a state dict has, and six globals, which are names here and nobody's functions; a
training checkpoint may have those of tensors of any dtype besides, which are never read.
Tensors are read from the file one at a time, when they are asked for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Self, cast

import numpy as np

from paw_mlx.convert.pickle_machine import Global, Machine, kind
from paw_mlx.convert.torch_zip import Archive, opened
from paw_mlx.errors import FormatError, listed
from paw_mlx.formats.untrusted import shown

MAX_TENSORS = 10_000
MAX_PICKLE_BYTES = 16 << 20
_MAX_DIMENSIONS = 32
_MAX_ELEMENTS = 1 << 40
_NUMPY: Mapping[str, np.dtype[Any]] = {
    "f32": np.dtype("<f4"),
    "f16": np.dtype("<f2"),
    "bf16": np.dtype("<u2"),
}
_STORAGES = {
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
_DTYPES = _STORAGES | _UNREAD


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


class StateDict:
    """An open state dict, to be closed or used in `with`."""

    def __init__(self, archive: Archive, path: Path, nested: Sequence[str] | None) -> None:
        self._archive, self._path = archive, path
        pickle = archive.read("data.pkl", MAX_PICKLE_BYTES)
        if nested is None:
            tensors = _flat(Machine(_CALLS, _STORAGES, _storage).run(pickle))
        else:
            tensors = _inner(Machine(_CALLS | _MORE_CALLS, _DTYPES, _storage).run(pickle), nested)
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(tensors)
        for info in self.tensors.values():
            if info.dtype in _NUMPY:
                _check_storage(info.storage, archive)

    def read(self, name: str) -> np.ndarray:
        """One tensor, contiguous, in its dtype (bf16 as uint16).

        What is not contiguous in the file needs memory for its span besides the result.
        """
        with _naming(self._path):
            if name not in self.tensors:
                raise FormatError(f"there is no tensor {shown(name)}")
            info = self.tensors[name]
            if info.dtype not in _NUMPY:
                raise FormatError(
                    f"the tensor {shown(name)} is {info.dtype}, and only {', '.join(_NUMPY)} "
                    "are read"
                )
            dtype = _NUMPY[info.dtype]
            flat = np.empty(info.span, dtype)
            if not info.span:
                return flat.reshape(info.shape)
            member = self._archive.members[f"data/{info.storage.key}"]
            self._archive.read_into(flat.view(np.uint8).data, member, info.offset * dtype.itemsize)
        dimensions = zip(info.shape, info.strides, strict=True)
        strides = [stride * dtype.itemsize if size > 1 else 0 for size, stride in dimensions]
        view = np.lib.stride_tricks.as_strided(flat, info.shape, strides)
        return np.asarray(view, order="C")  # copies what is not contiguous, and keeps 0-d

    def close(self) -> None:
        self._archive.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_state_dict(path: Path, *, nested: Sequence[str] | None = None) -> StateDict:
    """Open a flat state dict of float tensors that torch 1.6 or later saved.

    With `nested`, a training checkpoint too: its tensors may stand under one of these keys, and
    among plain values and tensors of other dtypes, which are described and not read.
    NotFound, or FormatError with the name of what was found instead.
    """
    file = opened(path)
    try:
        with _naming(path):
            return StateDict(Archive(file), path, nested)
    except BaseException:
        file.close()
        raise


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's name before what is wrong with it."""
    try:
        yield
    except FormatError as error:
        error.args = (f"{path}: {error}",)
        raise


def _flat(state: object) -> dict[str, TensorInfo]:
    """The top of the pickle, if it is a dict of nothing but named tensors."""
    found = _tensors(state)
    if len(found) < len(_dict(state)):
        raise _no_tensors(_dict(state), "no flat dict of tensors")
    return found


def _inner(state: object, nested: Sequence[str]) -> dict[str, TensorInfo]:
    """The tensors of a checkpoint: under one of the keys `nested`, or else at its top."""
    top = _dict(state)
    inside = {key: top[key] for key in nested if isinstance(top.get(key), dict)}
    found = {key: tensors for key, value in inside.items() if (tensors := _tensors(value))}
    if len(found) > 1:
        raise FormatError(
            f"data.pkl has tensors under each of {listed([shown(key) for key in found])}",
            hint="Save one of them alone: torch.save(checkpoint[key], path).",
        )
    tensors = next(iter(found.values())) if found else _tensors(state)
    if not tensors:
        raise _no_tensors(top, "no tensors")
    return tensors


def _dict(state: object) -> dict[object, object]:
    if not isinstance(state, dict):
        raise FormatError(f"data.pkl holds {kind(state)}, not a dict of tensors")
    if len(state) > MAX_TENSORS:
        raise FormatError(f"data.pkl holds {len(state)} values (limit {MAX_TENSORS})")
    return state


def _tensors(state: object) -> dict[str, TensorInfo]:
    """Those values of a dict that are tensors; their names are plain text."""
    found = {key: v for key, v in _dict(state).items() if isinstance(v, TensorInfo)}
    for key in found:
        if not isinstance(key, str) or not key.isprintable():
            raise FormatError(f"data.pkl names a tensor {kind(key)}, and a name is plain text")
    return cast(dict[str, TensorInfo], found)


def _no_tensors(state: dict[object, object], what: str) -> FormatError:
    others = [key for key, value in state.items() if not isinstance(value, TensorInfo)]
    inner = next((key for key in others if isinstance(state[key], dict)), None)
    return FormatError(
        f"data.pkl holds {what}: "
        + (listed([f"{shown(key)} is {kind(state[key])}" for key in others]) or "it is empty"),
        hint=f"Save the inner dict alone: torch.save(checkpoint[{shown(inner)}], path)."
        if inner is not None
        else None,
    )


def _check_storage(storage: Storage, archive: Archive) -> None:
    name = f"data/{storage.key}"
    if name not in archive.members:
        raise FormatError(f"data.pkl refers to {name}, which is not in the archive")
    found = archive.members[name].num_bytes
    needed = storage.num_elements * _NUMPY[storage.dtype].itemsize
    if found != needed:
        raise FormatError(
            f"{name} has {found} bytes, and {storage.num_elements} elements of {storage.dtype} "
            f"have {needed}"
        )


def _storage(pid: object) -> Storage:
    """What a persistent id refers to."""
    match pid:
        case ("storage", Global() as name, str(key), str(), int(count)) if name in _DTYPES:
            if not re.fullmatch(r"[A-Za-z0-9_]{1,64}", key):
                raise FormatError(f"data.pkl refers to a storage {shown(key)}, and keys are plain")
            if count < 0:
                raise FormatError(f"data.pkl has a storage of {count} elements")
            return Storage(_DTYPES[name], key, count)
    raise FormatError(f"data.pkl has {kind(pid)} for a persistent id, and no storage's")


def _ordered_dict(args: tuple[object, ...]) -> dict[object, object]:
    if args:
        raise FormatError(f"data.pkl makes an OrderedDict of {len(args)} arguments, not of none")
    return {}


def _tensor(args: tuple[object, ...]) -> TensorInfo:
    """What `_rebuild_tensor_v2` makes; metadata would change its values (neg, conj)."""
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
    """FormatError unless every element is in the storage, and none is there for several."""
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


def _parameter(args: tuple[object, ...]) -> TensorInfo:
    match args:
        case (TensorInfo() as tensor, bool(), dict()):
            return tensor
    raise FormatError("data.pkl makes a parameter of something else than a tensor")


def _stateful(args: tuple[object, ...]) -> TensorInfo:
    """A parameter with attributes of its own, which are dropped."""
    return _parameter(args[:3])


def _size(args: tuple[object, ...]) -> tuple[object, ...]:
    match args:
        case (tuple(shape),):
            return shape
    raise FormatError(f"data.pkl makes a torch.Size of {len(args)} arguments, not of a tuple")


_CALLS = {
    Global("collections.OrderedDict"): _ordered_dict,
    Global("torch._utils._rebuild_tensor_v2"): _tensor,
    Global("torch._utils._rebuild_parameter"): _parameter,
}
_MORE_CALLS = {
    Global("torch._utils._rebuild_parameter_with_state"): _stateful,
    Global("torch.Size"): _size,
}
