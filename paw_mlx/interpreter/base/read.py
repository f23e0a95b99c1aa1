"""A base read from its files: a directory of safetensors, or a GGUF file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx

from ...errors import FormatError, NotFound, listed
from ...families import Family, family_of
from ...files import exists, find_files
from ...formats.untrusted import MAX_TEXT_BYTES, check_arrived, json_object, read_bytes, shown
from .gguf import read_gguf_base
from .source import MLX_LM_PREFIX, Source, by_layer, eos_ids
from .tensors import Tensors, load_tensors, weight_dtype
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
    _check_method(path, config)
    packing = config.get("quantization") or {}
    if not isinstance(packing, dict):
        raise FormatError(f"{path} gives its quantization as {shown(packing)}, and no object")
    if (mode := packing.get("mode", "affine")) != "affine":
        raise FormatError(
            f"{path} is quantized in mode {shown(mode)}", hint="Only affine is supported."
        )
    tensors = _read_tensors(path, family)
    if exists(path / "generation_config.json"):
        generation = _read_json(path / "generation_config.json")
        config["eos_token_id"] = list(dict.fromkeys(eos_ids(config) + eos_ids(generation)))
    dtype = weight_dtype(tensors)
    tokenizer = Tokenizer.from_file(path / "tokenizer.json")
    return Source(config, by_layer(tensors), tokenizer, dtype)


def _read_tensors(path: Path, family: Family) -> Tensors:
    """Return every tensor under our name and (out, in)."""
    files = find_files(path, "*.safetensors")
    if not files:
        raise NotFound(f"no *.safetensors in {path}")
    tensors: Tensors = {}
    file_of: dict[str, str] = {}
    for file in files:
        check_arrived(file)
        found = {}
        for name, tensor in load_tensors(file).items():
            if not re.fullmatch(family.ignored, name):
                ours, turned = _rename(name, tensor, family)
                found[ours] = turned
        _check_part(file, found, file_of, family)
        tensors |= found
        file_of |= dict.fromkeys(found, file.name)
    return tensors


def _check_part(file: Path, found: Tensors, file_of: Mapping[str, str], family: Family) -> None:
    """Raise FormatError for a file that is too much: an adapter, a second copy, something else."""
    hint = f"Move {file.name} out of {file.parent}."
    if adapted := [name for name in found if ".lora_" in name]:
        raise FormatError(
            f"{file} is an adapter ({len(adapted)} tensors of a LoRA), in the folder of a base",
            hint=hint,
        )
    if twice := sorted(found.keys() & file_of.keys()):
        raise FormatError(
            f"{len(twice)} tensors are in {file_of[twice[0]]} and again in {file.name}: "
            f"{file.parent} holds a second copy of the model, or a part of one",
            hint=f"Move one of both out of {file.parent}.",
        )
    root = family.layers.partition(".")[0]
    if found and not any(name.startswith((f"{root}.", "lm_head")) for name in found):
        others = listed([shown(name) for name in sorted(found)])
        raise FormatError(f"{file} holds nothing of the base, but {others}", hint=hint)


def _check_method(path: Path, config: Mapping[str, Any]) -> None:
    """Raise FormatError for weights that were packed for torch, as bitsandbytes does."""
    given = config.get("quantization_config")
    method = given.get("quant_method") if isinstance(given, dict) else None
    if method is not None and "quantization" not in config:
        raise FormatError(
            f"{path} is quantized with {shown(method)}, which torch alone reads",
            hint="Take the base that it was made from, and `--bits`; or a GGUF or MLX form of it.",
        )


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
    if not exists(path):
        raise NotFound(f"no {path.name} in {path.parent}")
    return json_object(read_bytes(path, MAX_TEXT_BYTES), str(path))
