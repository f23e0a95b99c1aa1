"""Which weights are these: one short name for a base or a compiler, to notice drift.

An identity, not an integrity check: it reads the first bytes of each tensor, so it takes
milliseconds on any size, and damage further in goes unseen. The starts are enough to tell
bases apart: training changes a tensor from its first row on, and quantizing its dtype, shape
and codes from the first block on. How the tensors are spread over files does not matter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import NotFound
from ..files import find_files
from .gguf_reader import read_gguf
from .tensors import safetensors_index
from .untrusted import MAX_TEXT_BYTES, json_object, open_file, read_bytes, reading

RECORD = "paw_mlx"  # where the config of a converted base says what it was made from
_HEAD_BYTES = 4096
_Record = tuple[str, bytes]  # a tensor's name, and the digest of what is read of it


def fingerprint(path: Path) -> str:
    """Return the fingerprint (64 hex) of a GGUF file, or of a folder's *.safetensors.

    SHA-256 over the SHA-256 of every tensor's name, dtype, shape and first 4,096 bytes, in
    order of name; hidden files and folders do not count. NotFound, or FormatError for
    malformed files.
    """
    if path.is_dir():
        records = list(_folder_records(path))
    else:
        tensors = read_gguf(path).tensors.values()
        records = [
            _record(t.name, t.type_name, t.shape, t.data[:_HEAD_BYTES].tobytes()) for t in tensors
        ]
    digest = hashlib.sha256()
    for _, record in sorted(records):
        digest.update(record)
    return digest.hexdigest()


def base_fingerprint(path: Path) -> str:
    """Return the fingerprint of a base; of a conversion, that of the base it was made from.

    Quantizing is its user's own choice and no drift, on load and beforehand alike.
    """
    own, config = fingerprint(path), path / "config.json"
    if config.is_file():
        record = json_object(read_bytes(config, MAX_TEXT_BYTES), config.name).get(RECORD)
        # Whoever changes the weights may keep the config: it speaks for its own alone.
        if isinstance(record, dict) and record.get("fingerprint") == own:
            return recorded(record, "source") or own
    return own


def recorded(meta: Mapping[str, Any], model: str) -> str | None:
    """Return the fingerprint of the `interpreter` or `compiler` that a program records."""
    value = meta.get(f"{model}_fingerprint")
    return value if isinstance(value, str) and value else None


def _record(name: str, dtype: str, shape: tuple[int, ...], head: bytes) -> _Record:
    described = json.dumps([name, dtype, shape]).encode()
    return name, hashlib.sha256(described + head).digest()


def _folder_records(folder: Path) -> Iterator[_Record]:
    files = find_files(folder, "*.safetensors", below=True)
    if not files:
        raise NotFound(f"no *.safetensors in {folder}")
    for file in files:
        yield from _file_records(file)


def _file_records(path: Path) -> Iterator[_Record]:
    """Read one file's header and the start of each tensor; nothing else is touched."""
    slots = safetensors_index(path)
    with reading(path), open_file(path) as file:
        for name, slot in slots.items():
            file.seek(slot.start)
            head = file.read(min(_HEAD_BYTES, slot.num_bytes))
            yield _record(name, slot.dtype, slot.shape, head)
