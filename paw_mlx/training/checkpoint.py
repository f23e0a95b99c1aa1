"""A training's state on disk, whole or not at all, so that a run that was cut off goes on.

One file holds arrays and a record of the rest. It says of what run it is; another run's, or a
damaged one, counts for none: what was done is then done again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map

from ..interpreter.base.tensors import save_tensors

Tree = TypeVar("Tree")

FILE = "checkpoint.safetensors"
_FAULTS = (RuntimeError, KeyError, ValueError, TypeError, IndexError)  # what damaged files raise


class Checkpoints:
    """A folder for one run's state; `terms` name the run, by whatever its result depends on."""

    def __init__(self, folder: Path, terms: str) -> None:
        self._file, self._terms = folder / FILE, terms

    def save(self, trees: Sequence[Any], record: dict[str, Any]) -> None:
        """Write trees of arrays, and a record that JSON can hold; DiskError for the disk."""
        arrays = {
            f"{number}.{place}": array
            for number, tree in enumerate(trees)
            for place, array in enumerate(_arrays(tree))
        }
        told = {"format": "mlx", "terms": self._terms, "record": json.dumps(record)}
        save_tensors(self._file, arrays, told)

    def load(self, trees: Sequence[Any]) -> tuple[list[Any], dict[str, Any]] | None:
        """Read what was saved, in the form of `trees`; None if there is nothing of this run."""
        if not self._file.is_file():
            return None
        try:
            loaded = cast(Any, mx.load(str(self._file), return_metadata=True))
            arrays, metadata = loaded
            if metadata["terms"] != self._terms:
                return None
            found = [_refill(tree, number, arrays) for number, tree in enumerate(trees)]
            mx.eval(found)
            return found, json.loads(metadata["record"])
        except _FAULTS:
            return None


def _arrays(tree: Any) -> list[mx.array]:
    return [array for _, array in cast(list[tuple[str, mx.array]], tree_flatten(tree))]


def _refill(tree: Tree, number: int, arrays: dict[str, mx.array]) -> Tree:
    """Return a tree of this form with other arrays: by their places, for names may have dots."""
    places = iter(range(len(_arrays(tree))))

    def take(old: mx.array) -> mx.array:
        new = arrays[f"{number}.{next(places)}"]
        if new.shape != old.shape:
            raise ValueError(f"{new.shape} is not {old.shape}")
        return new

    return cast(Tree, tree_map(take, tree))
