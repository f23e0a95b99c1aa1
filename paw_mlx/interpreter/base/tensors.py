"""The tensors of a base by name, and whether they are those that its model wants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from ...errors import DiskError, FormatError, listed
from ...files import replacing
from ...formats.tensors import safetensors_index

Tensors = dict[str, mx.array]
Shapes = Mapping[str, tuple[int, ...]]


def load_tensors(file: Path) -> Tensors:
    """Load a file's tensors, lazily: only what is evaluated is read. FormatError for damage."""
    safetensors_index(file)  # what MLX takes on trust
    try:
        return cast(Tensors, mx.load(str(file)))
    except (RuntimeError, ValueError) as error:
        raise FormatError(f"{file} is damaged: {error}") from error


def save_tensors(file: Path, tensors: Mapping[str, mx.array], metadata: dict[str, str]) -> None:
    """Write tensors as safetensors, whole or not at all. DiskError if the disk refuses."""
    with replacing(file) as temporary:
        try:
            mx.save_safetensors(str(temporary), dict(tensors), metadata)
        except RuntimeError as error:  # what MLX makes of a full disk
            raise DiskError(f"cannot write {file}: {error}") from error


def shapes_of(model: nn.Module) -> Shapes:
    """Return the shapes of a model's tensors, by name."""
    return {name: t.shape for name, t in dict(tree_flatten(model.parameters())).items()}


def check_fit(wanted: Shapes, found: Shapes) -> None:
    """Raise FormatError with every tensor that is missing, surplus or misshapen."""
    wrong = [f"{name} is missing" for name in sorted(wanted.keys() - found.keys())]
    wrong += [f"{name} is unknown" for name in sorted(found.keys() - wanted.keys())]
    wrong += [
        f"{name} is {found[name]}, not {wanted[name]}"
        for name in sorted(wanted.keys() & found.keys())
        if found[name] != wanted[name]
    ]
    if wrong:
        raise FormatError(f"{len(wrong)} of the base's tensors do not fit: {listed(wrong)}")


def evaluate(arrays: Iterable[mx.array]) -> None:
    """Read what is still lazy.

    FormatError for a file that was cut short: only now does it show.
    """
    try:
        mx.eval(list(arrays))
    except RuntimeError as error:
        raise FormatError(f"the base's weights are damaged: {error}") from error


def common_dtype(dtypes: Iterable[mx.Dtype]) -> mx.Dtype:
    """Return the one type for weights (or their scales) of several: bfloat16 if in doubt."""
    stored = set(dtypes) - {mx.uint32}
    if stored == {mx.float32}:
        return mx.float32
    return mx.float16 if mx.float16 in stored and mx.bfloat16 not in stored else mx.bfloat16


def weight_dtype(tensors: Tensors) -> mx.Dtype:
    """Return the common type of weights, among all of a base's tensors.

    Norms and biases do not count: some files keep them in float32 beside everything else.
    """
    return common_dtype(tensor.dtype for tensor in tensors.values() if tensor.ndim > 1)
