"""A base as its files hold it: config, tensors, tokenizer; nothing evaluated yet.

Every kind of file becomes the same thing: a Hugging Face config, and tensors under Hugging
Face's names, in which a packed weight is `.weight` (uint32), `.scales` and `.biases`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import mlx.core as mx

from ..errors import FormatError, NotFound, listed
from .models import MODELS
from .tokenizer import Tokenizer

Tensors = dict[str, mx.array]


@dataclass(frozen=True, eq=False)
class Source:
    """A base as read."""

    config: dict[str, Any]
    tensors: Tensors
    tokenizer: Tokenizer

    @property
    def module(self) -> ModuleType:
        """The module in `models/` that runs it."""
        return model_module(self.config)

    @property
    def context(self) -> int:
        """How many positions its config gives it."""
        return self.config.get("max_position_embeddings") or self.config["n_positions"]

    @property
    def eos_ids(self) -> list[int]:
        """The ids its config says end an output."""
        return _eos_ids(self.config)


def model_module(config: dict[str, Any]) -> ModuleType:
    """The module of a config's model_type; FormatError if there is none."""
    kind = config.get("model_type")
    if kind not in MODELS:
        raise FormatError(
            f"model_type {kind!r} is not supported",
            hint=f"Supported: {listed(sorted(MODELS))}.",
        )
    return MODELS[kind]


def read_directory(path: Path) -> Source:
    """Read a Hugging Face or mlx-community directory of safetensors."""
    config = _json(path / "config.json")
    module = model_module(config)
    if (mode := (config.get("quantization") or {}).get("mode", "affine")) != "affine":
        raise FormatError(f"{path} is quantized in mode {mode}", hint="Only affine is supported.")
    source = Source(config, _tensors(path, module), Tokenizer.from_file(path / "tokenizer.json"))
    if (path / "generation_config.json").exists():
        generation = _json(path / "generation_config.json")
        config["eos_token_id"] = _eos_ids(config) + _eos_ids(generation)
    return source


def _tensors(path: Path, module: ModuleType) -> Tensors:
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise NotFound(f"no *.safetensors in {path}")
    prefix = getattr(module, "PREFIX", "")
    tensors: Tensors = {}
    for file in files:
        try:
            loaded = cast(Tensors, mx.load(str(file)))
        except RuntimeError as error:
            raise FormatError(f"{file} is damaged: {error}") from error
        for name, tensor in loaded.items():
            if not any(re.fullmatch(pattern, name) for pattern in module.IGNORED):
                tensors[name if name.startswith((prefix, "lm_head")) else prefix + name] = tensor
    if pattern := getattr(module, "TRANSPOSED", None):
        for name in [n for n in tensors if re.fullmatch(pattern, n)]:
            if tensors[name].dtype != mx.uint32:  # packed ones are (out, in) already
                tensors[name] = tensors[name].T
    return tensors


def _eos_ids(config: dict[str, Any]) -> list[int]:
    ids = config.get("eos_token_id")
    return ids if isinstance(ids, list) else [] if ids is None else [ids]


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"no {path.name} in {path.parent}") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} is no valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise FormatError(f"{path} holds no JSON object")
    return value
