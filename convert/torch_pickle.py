"""PyTorch's weights without PyTorch: the state dict in a `torch.save` ZIP.

Nothing is executed, by construction: the pickle goes through a stack machine that knows the
opcodes a state dict has, and the few globals of `torch_tensors`, which are names here and
nobody's functions. Tensors are read from the file one at a time, when they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Self, cast

import numpy as np

from paw_mlx.convert.pickle_machine import Machine, kind
from paw_mlx.convert.torch_tensors import (
    CALLS,
    DTYPES,
    MORE_CALLS,
    NUMPY,
    STORAGES,
    Storage,
    TensorInfo,
    read_storage,
)
from paw_mlx.convert.torch_zip import Archive
from paw_mlx.errors import FormatError, listed
from paw_mlx.formats.untrusted import open_file, shown

MAX_TENSORS = 10_000
MAX_PICKLE_BYTES = 16 << 20


class StateDict:
    """An open state dict, to be closed or used in `with`."""

    def __init__(self, archive: Archive, path: Path, nested: Sequence[str] | None) -> None:
        self._archive, self._path = archive, path
        pickle = archive.read("data.pkl", MAX_PICKLE_BYTES)
        if nested is None:
            tensors = _take_flat(Machine(CALLS, STORAGES, read_storage).run(pickle))
        else:
            machine = Machine(CALLS | MORE_CALLS, DTYPES, read_storage)
            tensors = _take_nested(machine.run(pickle), nested)
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(tensors)
        for info in self.tensors.values():
            if info.dtype in NUMPY:
                _check_storage(info.storage, archive)

    def read(self, name: str) -> np.ndarray:
        """Read one tensor, contiguous, in its dtype (bf16 as uint16).

        What is not contiguous in the file needs memory for its span besides the result.
        """
        with _name_in_errors(self._path):
            if name not in self.tensors:
                raise FormatError(f"there is no tensor {shown(name)}")
            info = self.tensors[name]
            if info.dtype not in NUMPY:
                raise FormatError(
                    f"the tensor {shown(name)} is {info.dtype}, and only {', '.join(NUMPY)} "
                    "are read"
                )
            dtype = NUMPY[info.dtype]
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
    file = open_file(path)
    try:
        with _name_in_errors(path):
            return StateDict(Archive(file), path, nested)
    except BaseException:
        file.close()
        raise


@contextmanager
def _name_in_errors(path: Path) -> Iterator[None]:
    """Put the file's name before what is wrong with it."""
    try:
        yield
    except FormatError as error:
        error.args = (f"{path}: {error}",)
        raise


def _take_flat(state: object) -> dict[str, TensorInfo]:
    """Take the top of the pickle, if it is a dict of nothing but named tensors."""
    found = _take_tensors(state)
    if len(found) < len(_check_dict(state)):
        raise _no_tensors(_check_dict(state), "no flat dict of tensors")
    return found


def _take_nested(state: object, nested: Sequence[str]) -> dict[str, TensorInfo]:
    """Take the tensors of a checkpoint: under one of the keys `nested`, or else at its top."""
    top = _check_dict(state)
    inside = {key: top[key] for key in nested if isinstance(top.get(key), dict)}
    found = {key: tensors for key, value in inside.items() if (tensors := _take_tensors(value))}
    if len(found) > 1:
        raise FormatError(
            f"data.pkl has tensors under each of {listed([shown(key) for key in found])}",
            hint="Save one of them alone: torch.save(checkpoint[key], path).",
        )
    tensors = next(iter(found.values())) if found else _take_tensors(state)
    if not tensors:
        raise _no_tensors(top, "no tensors")
    return tensors


def _check_dict(state: object) -> dict[object, object]:
    if not isinstance(state, dict):
        raise FormatError(f"data.pkl holds {kind(state)}, not a dict of tensors")
    if len(state) > MAX_TENSORS:
        raise FormatError(f"data.pkl holds {len(state)} values (limit {MAX_TENSORS})")
    return state


def _take_tensors(state: object) -> dict[str, TensorInfo]:
    """Take those values of a dict that are tensors; their names are plain text."""
    found = {key: v for key, v in _check_dict(state).items() if isinstance(v, TensorInfo)}
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
    needed = storage.num_elements * NUMPY[storage.dtype].itemsize
    if found != needed:
        raise FormatError(
            f"{name} has {found} bytes, and {storage.num_elements} elements of {storage.dtype} "
            f"have {needed}"
        )
