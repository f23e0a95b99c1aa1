"""A compiler's arrays as files."""

from __future__ import annotations

import mlx.core as mx

from ..formats.checkpoint import MAPPER, TRAINED_ENCODER, Checkpoint
from ..interpreter.base.tensors import load_tensors
from .mapper import Arrays


def read_arrays(compiler: Checkpoint) -> Arrays:
    """Read a compiler's arrays as float32, to go on from; FormatError for a damaged file."""
    arrays: Arrays = {}
    for name in (MAPPER, TRAINED_ENCODER):
        file = compiler.folder / name
        if file.is_file():
            arrays |= load_tensors(file)
    return {name: array.astype(mx.float32) for name, array in arrays.items()}
