"""A compiler's folder: where its parts lie, and what its meta.json says.

meta.json             the numbers that steer a compile; nothing about them is assumed
compiler/             the encoder, in Hugging Face's layout
lora_mapper.pt        the mapper as published, or
mapper.safetensors    the mapper converted, all float32
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FormatError
from .fingerprint import fingerprint
from .untrusted import json_object, number, read_bytes, shown, string

META, ENCODER = "meta.json", "compiler"
PUBLISHED_MAPPER, MAPPER = "lora_mapper.pt", "mapper.safetensors"
CONVERTED = "paw_mlx"  # the key of meta.json under which a conversion records itself
_STYLE = "minimal"
_MAX_META_BYTES = 1 << 20
_MAX_TEXT_BYTES = 64 << 20
_MAX_SIZE = 1 << 16


@dataclass(frozen=True)
class CompilerMeta:
    """What a compiler's meta.json fixes. `record` is the whole of it, as read."""

    interpreter: str
    rank: int
    alpha: float
    num_bases: int
    prefix_steps: int
    record: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> CompilerMeta:
        """Read a compiler's meta.json; FormatError, with the key, for what is absent or odd."""
        record = json_object(read_bytes(folder / META, _MAX_META_BYTES), META)
        interpreter = string(_value(record, "interpreter_model"), "interpreter_model")
        style = _value(record, "compiler_prompt_style")
        if not interpreter or style != _STYLE:
            raise FormatError(
                f"{META} gives interpreter_model {shown(interpreter)} and compiler_prompt_style "
                f"{shown(style)}; only the style {_STYLE!r} is known"
            )
        return cls(
            interpreter=interpreter,
            rank=_size(record, "lora_rank"),
            alpha=number(_value(record, "lora_alpha"), "lora_alpha"),
            num_bases=_size(record, "lora_num_bases"),
            prefix_steps=_size(record, "prefix_steps"),
            record=record,
        )

    @property
    def conversion(self) -> Mapping[str, Any] | None:
        """What the conversion recorded (bits, group_size, source), or None as published."""
        found = self.record.get(CONVERTED)
        return found if isinstance(found, dict) else None


def compiler_fingerprint(folder: Path) -> str:
    """The fingerprint (64 hex) of a converted compiler: weights, meta.json's numbers, tokenizer."""
    record = {k: v for k, v in CompilerMeta.read(folder).record.items() if k != CONVERTED}
    digest = hashlib.sha256(fingerprint(folder).encode())
    digest.update(json.dumps(record, sort_keys=True).encode())
    for name in ("tokenizer.json", "tokenizer_config.json"):
        digest.update(hashlib.sha256(read_bytes(folder / ENCODER / name, _MAX_TEXT_BYTES)).digest())
    return digest.hexdigest()


def is_converted(folder: Path) -> bool:
    """Whether a folder holds a converted compiler, whole."""
    if not ((folder / MAPPER).is_file() and (folder / META).is_file()):
        return False
    return CompilerMeta.read(folder).conversion is not None


def _value(record: Mapping[str, Any], key: str) -> Any:
    if key not in record:
        raise FormatError(f"{META} of the compiler lacks {key}")
    return record[key]


def _size(record: Mapping[str, Any], key: str) -> int:
    value = _value(record, key)
    if type(value) is not int or not 0 < value <= _MAX_SIZE:
        raise FormatError(f"{META} of the compiler gives {key} as {shown(value)}, which is no size")
    return value
