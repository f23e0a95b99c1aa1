"""The mapper of a published compiler, out of its pickle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from paw_mlx.convert.torch_pickle import StateDict, open_state_dict
from paw_mlx.errors import FormatError
from paw_mlx.files import replacing
from paw_mlx.formats.checkpoint import check_mapper
from paw_mlx.formats.tensors import Later, write_safetensors


def convert_mapper(pt: Path, out_file: Path, meta: Mapping[str, Any]) -> None:
    """Write the mapper in `pt`, checked against meta.json's numbers, as float32 safetensors.

    One tensor at a time is in memory. NotFound, FormatError, or DiskError for the disk.
    """
    with open_state_dict(pt) as state:
        shapes = {name: info.shape for name, info in state.tensors.items()}
        check_mapper(shapes, meta)
        tensors = {
            name: Later("f32", shape, 4 * math.prod(shape), partial(_read_float32, state, name))
            for name, shape in shapes.items()
        }
        with replacing(out_file) as temporary:
            write_safetensors(temporary, tensors, {"format": "mlx"})


def _read_float32(state: StateDict, name: str) -> np.ndarray:
    """Read a tensor as float32; FormatError for NaN and infinity."""
    array = state.read(name)
    if state.tensors[name].dtype == "bf16":
        array = (array.astype("<u4") << 16).view("<f4")
    array = np.ascontiguousarray(array, "<f4")
    with np.errstate(invalid="ignore"):
        finite = np.isfinite([array.max(), array.min()]).all()
    if not finite:
        raise FormatError(f"the mapper's {name} holds values that are not finite")
    return array
