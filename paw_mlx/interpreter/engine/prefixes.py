"""The prefixes of programs, evaluated: in memory, on disk, or made on first use.

On disk there is one safetensors file per prefix, named by the hash of its key and written in one
rename, so that a second process starts warm. The key says all that the numbers depend on and
stands in the file, beside a checksum of both. What is damaged, half or another's is removed and
counts as absent, as does whatever the disk refuses: the prefix is evaluated once more.

    keys, values    (1, kv_heads, P, head_dim) per layer, as `0.k`, `0.v`, `1.k` ...
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import cast
from weakref import WeakKeyDictionary

import mlx.core as mx
import numpy as np

from ...errors import FormatError, PawError
from ...program import Program
from ..adapters.bank import Bank
from ..base.tensors import save_tensors
from ..models.decoder import Layer
from ..models.load import Base
from .decode import prefill
from .kv import KV

_WORTH_TOKENS = 32  # a shorter prefix is evaluated faster than it is read
_SUFFIX = ".safetensors"
_ABANDONED_S = 3600  # after which a file half written belongs to a process that was killed


@dataclass
class _Held:
    kv: KV
    key: str  # on disk; "" for what is not kept there
    is_saved: bool


class Prefixes:
    """The KV of every program's prefix; the least recently used leave memory at `max_bytes()`."""

    def __init__(
        self, base: Base, bank: Bank, folder: PrefixFolder, max_bytes: Callable[[], int]
    ) -> None:
        self._base, self._bank, self._folder, self._max_bytes = base, bank, folder, max_bytes
        self._held: WeakKeyDictionary[Program, _Held] = WeakKeyDictionary()  # the oldest use first

    def __len__(self) -> int:
        return len(self._held)

    def get(self, program: Program, tokens: Sequence[int]) -> KV:
        """Return a program's prefix of these tokens (B = 1), evaluated. Never write into it."""
        held = self._held.pop(program, None)
        if held is None:
            held = self._held[program] = self._make(program, tokens)
            self.trim()
        else:
            self._held[program] = held
        return held.kv

    def keep(self) -> None:
        """Write what was made to disk, for the next process; a good time is when idle."""
        for held in list(self._held.values()):
            self._save(held)

    def trim(self) -> None:
        """Let go of the least recently used beyond the budget, the newest one excepted."""
        total = sum(held.kv.nbytes for held in self._held.values())
        for program, held in list(self._held.items())[:-1]:
            if total <= self._max_bytes():
                return
            self._save(held)
            del self._held[program]
            total -= held.kv.nbytes

    def clear(self) -> None:
        """Give the memory back."""
        self._held.clear()

    def _make(self, program: Program, tokens: Sequence[int]) -> _Held:
        """Read a prefix from disk, or evaluate it."""
        key = ""
        if len(tokens) >= _WORTH_TOKENS:
            key = prefix_key(self._base, program, tokens, alone=self._bank.always_hot)
            layers = self._folder.load(key)
            if layers and layers[0][0].shape[2] == len(tokens):
                return _Held(KV.of(layers), key, is_saved=True)
        kv = KV(self._base.model.num_layers)
        if tokens:
            self._bank.use([program])
            prefill(self._base.model, [*tokens], kv)
            mx.eval(kv.arrays)
        return _Held(kv, key, is_saved=not key)

    def _save(self, held: _Held) -> None:
        if not held.is_saved:
            held.is_saved = True
            self._folder.save(held.key, [layer for layer in held.kv.layers if layer])


class PrefixFolder:
    """A folder of evaluated prefixes, of at most `max_bytes`; 0 keeps and reads none.

    The least recently used go first. Any number of processes may use one folder at once. Nothing
    here raises for the disk's sake.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes

    def load(self, key: str) -> list[Layer] | None:
        """Return keys and values of every layer, evaluated; None if not here, or not sound."""
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
        with suppress(OSError):
            metadata = {"key": key, "checksum": _checksum(key, named)}
            save_tensors(self._path(key), named, metadata)
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


def prefix_key(base: Base, program: Program, tokens: Sequence[int], *, alone: bool = False) -> str:
    """Return all that an evaluated prefix depends on, as JSON; "" if it cannot be kept.

    That is weights, program, tokens and arithmetic, which is another one `alone`, where no batch
    has a say in it. It cannot be kept once the base's files have gone.
    """
    try:
        weights = base.identity
    except (PawError, OSError):
        return ""
    parts = {
        "weights": weights,
        "form": base.form,
        "alone": alone,
        "program": program.digest(typed=False),
        "prefix": _hash(program.template.prefix.encode()),
        "tokens": _hash(json.dumps([*tokens]).encode()),
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
    """Read the layers of a file; FormatError or RuntimeError unless they are what was saved."""
    tensors, metadata = cast(
        tuple[dict[str, mx.array], dict[str, str]], mx.load(str(path), return_metadata=True)
    )
    if metadata != {"key": key, "checksum": _checksum(key, tensors)}:
        raise FormatError(f"{path} is damaged, or another prefix")
    return [(tensors[f"{i}.k"], tensors[f"{i}.v"]) for i in range(len(tensors) // 2)]


def _checksum(key: str, tensors: dict[str, mx.array]) -> str:
    """Return a checksum of a key, and of names, dtypes, shapes and numbers; evaluates them."""
    mx.eval(list(tensors.values()))
    checksum = zlib.crc32(key.encode())
    for name, tensor in sorted(tensors.items()):
        checksum = zlib.crc32(f"{name} {tensor.dtype} {tensor.shape}".encode(), checksum)
        checksum = zlib.crc32(np.asarray(tensor.view(mx.uint8)).data, checksum)
    return f"{checksum:08x}"


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
