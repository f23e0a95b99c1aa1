"""Evaluated prefixes on disk: a second process starts warm.

One safetensors file per prefix, named by the hash of its key and written in one rename. The
key says all that the numbers depend on and stands in the file, beside a checksum of both.
What is damaged, half or another's is removed and counts as absent, as does whatever the disk
refuses: the prefix is evaluated once more. The least recently used go first.

    keys, values    (1, kv_heads, P, head_dim) per layer, as `0.k`, `0.v`, `1.k` ...
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import cast

import mlx.core as mx
import numpy as np

from ..errors import FormatError, PawError
from ..files import replacing
from ..program import Program
from .weights import Base

_SUFFIX = ".safetensors"
_ABANDONED_S = 3600  # after which a file half written belongs to a process that was killed

Layer = tuple[mx.array, mx.array]


class PrefixCache:
    """A folder of evaluated prefixes, of at most `max_bytes`; 0 keeps and reads none.

    Any number of processes may use one folder at once. Nothing here raises for the disk's sake.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes

    def load(self, key: str) -> list[Layer] | None:
        """Keys and values of every layer, evaluated; None if they are not here, or not sound."""
        path = self._path(key)
        if not (key and self._max_bytes):
            return None
        try:
            if not path.exists():
                return None
            layers = _read(path, key)
        except (ValueError, RuntimeError, OSError):  # ours, MLX's, and what their text does
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)
        return layers

    def save(self, key: str, layers: Sequence[Layer]) -> None:
        """Keep the keys and values of every layer, if the disk has room for them."""
        if not key or sum(array.nbytes for layer in layers for array in layer) > self._max_bytes:
            return
        named = {
            f"{i}.{n}": mx.contiguous(layer[n == "v"])
            for i, layer in enumerate(layers)
            for n in "kv"
        }
        with suppress(OSError, RuntimeError):
            with replacing(self._path(key)) as temporary:
                metadata = {"key": key, "checksum": _checksum(key, named)}
                mx.save_safetensors(str(temporary), named, metadata)
            self._prune()

    def _path(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}{_SUFFIX}"

    def _prune(self) -> None:
        """Remove the least recently used beyond the cap, and what killed processes left."""
        found = [(entry, entry.stat()) for entry in os.scandir(self._folder)]
        files = [(info.st_mtime, info.st_size, e.path) for e, info in found if e.is_file()]
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self._max_bytes:
                break
            Path(path).unlink(missing_ok=True)
            total -= size
        for entry, info in found:
            if entry.is_dir() and time.time() - info.st_mtime > _ABANDONED_S:
                shutil.rmtree(entry.path, ignore_errors=True)


def prefix_key(base: Base, program: Program, *, alone: bool = False) -> str:
    """All that an evaluated prefix depends on, as JSON: weights, program, tokens, arithmetic.

    `alone` is another arithmetic: no batch had a say in it.

    "" if the base's files have gone meanwhile, and nothing can be kept.
    """
    try:
        weights = base.identity
    except (PawError, OSError):
        return ""
    prefix = program.template.prefix
    tokens = base.tokenizer.encode(prefix, control=True)
    parts = {
        "weights": weights,
        "form": base.form,
        "alone": alone,
        "program": program.digest(),
        "prefix": _hash(prefix.encode()),
        "tokens": _hash(json.dumps(tokens).encode()),
        "device": mx.default_device().type.name,
        "mlx": _version("mlx"),
        "paw-mlx": _version("paw-mlx"),  # another one may compute other numbers
    }
    return json.dumps(parts, sort_keys=True)


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _read(path: Path, key: str) -> list[Layer]:
    """The layers of a file; FormatError or RuntimeError unless they are what was saved."""
    tensors, metadata = cast(
        tuple[dict[str, mx.array], dict[str, str]], mx.load(str(path), return_metadata=True)
    )
    if metadata != {"key": key, "checksum": _checksum(key, tensors)}:
        raise FormatError(f"{path} is damaged, or another prefix")
    return [(tensors[f"{i}.k"], tensors[f"{i}.v"]) for i in range(len(tensors) // 2)]


def _checksum(key: str, tensors: dict[str, mx.array]) -> str:
    """A checksum of a key, and of names, dtypes, shapes and numbers; evaluates them."""
    mx.eval(list(tensors.values()))
    checksum = zlib.crc32(key.encode())
    for name, tensor in sorted(tensors.items()):
        checksum = zlib.crc32(f"{name} {tensor.dtype} {tensor.shape}".encode(), checksum)
        checksum = zlib.crc32(np.asarray(tensor.view(mx.uint8)).data, checksum)
    return f"{checksum:08x}"


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
