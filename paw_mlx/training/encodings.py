"""What a frozen encoder says of specs, kept on disk: a run reads the same ones many times."""

from __future__ import annotations

import hashlib

import numpy as np

from .. import settings
from ..compiler.base_encoder import SpecReader, encode_spec
from ..compiler.mapper import pool
from ..files import replacing
from ..interpreter.adapters import lora


class Encodings:
    """What a frozen encoder says of specs, each (H,) float32; read once, and kept on disk."""

    def __init__(self, reader: SpecReader) -> None:
        self._reader = reader
        kind = f"{reader.base.fingerprint[:16]}-{reader.num_teachers}"
        self._folder = settings.cache_dir() / "encodings" / kind

    def __getitem__(self, spec: str) -> np.ndarray:
        """Return what the encoder says of a spec, (H,)."""
        file = self._folder / hashlib.sha256(spec.encode()).hexdigest()[:32]
        if file.is_file() and file.stat().st_size == 4 * self._reader.hidden_size:
            return np.fromfile(file, "<f4")
        base = self._reader.base
        lora.attach(base.groups, {})
        found = np.array(pool(self._reader.states(encode_spec(base.tokenizer, spec))))
        with replacing(file) as temporary:
            temporary.write_bytes(found.astype("<f4").tobytes())
        return found
