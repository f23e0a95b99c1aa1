"""A base read from its files: a directory of safetensors, or a GGUF file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import mlx.core as mx

from ...errors import FormatError, NotFound
from ...profiles import Family, family_of
from .gguf import read_gguf_base
from .source import MLX_LM_PREFIX, Source, eos_ids
from .tensors import Tensors, common_dtype
from .tokenizer import Tokenizer


def read_source(path: Path) -> Source:
    """Read a base as its directory or GGUF file holds it, its tensors still lazy.

    NotFound if a file is missing; FormatError for what is damaged or not supported.
    """
    return _read_directory(path) if path.is_dir() else read_gguf_base(path)


def _read_directory(path: Path) -> Source:
    """Read a Hugging Face or mlx-community directory of safetensors."""
    config = _read_json(path / "config.json")
    family = family_of(config)
    if (mode := (config.get("quantization") or {}).get("mode", "affine")) != "affine":
        raise FormatError(f"{path} is quantized in mode {mode}", hint="Only affine is supported.")
    tensors = _read_tensors(path, family)
    if (path / "generation_config.json").exists():
        generation = _read_json(path / "generation_config.json")
        config["eos_token_id"] = list(dict.fromkeys(eos_ids(config) + eos_ids(generation)))
    # Norms and biases do not count: some files keep them in float32 beside everything else.
    dtype = common_dtype(t.dtype for t in tensors.values() if t.ndim > 1)
    by_layer: dict[str, Tensors] = {}
    for name, tensor in tensors.items():
        layer, _, part = name.rpartition(".")
        by_layer.setdefault(layer, {})[part] = tensor
    layers: dict[str, Callable[[], Tensors]] = {
        layer: partial(dict, parts) for layer, parts in by_layer.items()
    }
    return Source(config, layers, Tokenizer.from_file(path / "tokenizer.json"), dtype)


def _read_tensors(path: Path, family: Family) -> Tensors:
    """Return every tensor under our name and (out, in)."""
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise NotFound(f"no *.safetensors in {path}")
    tensors: Tensors = {}
    for file in files:
        try:
            loaded = cast(Tensors, mx.load(str(file)))
        except RuntimeError as error:
            raise FormatError(f"{file} is damaged: {error}") from error
        for name, tensor in loaded.items():
            if not re.fullmatch(family.ignored, name):
                ours, turned = _rename(name, tensor, family)
                tensors[ours] = turned
    return tensors


def _rename(name: str, tensor: mx.array, family: Family) -> tuple[str, mx.array]:
    """Return our name, and the tensor (out, in): what mlx-lm named or packed is so already."""
    prefix = family.prefix
    if prefix and name.startswith(MLX_LM_PREFIX):
        return prefix + name.removeprefix(MLX_LM_PREFIX), tensor
    name = name if name.startswith((prefix, "lm_head")) else prefix + name
    if re.fullmatch(family.transposed, name) and tensor.dtype != mx.uint32:
        return name, tensor.T
    return name, tensor


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"no {path.name} in {path.parent}") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} is no valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise FormatError(f"{path} holds no JSON object")
    return value
