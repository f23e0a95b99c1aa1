"""A base written as the folder that mlx-lm itself loads, one layer in memory at a time.

    model.safetensors  mlx-lm's names; weights are (out, in), packed ones have three parts
    config.json        Hugging Face's, with what mlx-lm does not guess said outright
    tokenizer.json

All floats get one type, that of the base's weights: another one beside it, as the float32
norms of GGUF files, would make every activation on the way float32.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ...errors import FormatError, OptionError
from ...families import family_of
from ...formats.tensors import SafetensorsWriter
from ...progress import Progress, advance, quiet
from .packing import (
    PACKED_BITS,
    Packing,
    all_finite,
    dense_shapes,
    infer_packing,
    is_matrix,
    pack,
    unpack,
)
from .source import MLX_LM_PREFIX, Source
from .tensors import Tensors, check_fit, evaluate, shapes_of

_ARCHITECTURES = {
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
# What no longer holds of the written base, or names code that a loader may be asked to run.
_DROPPED = (
    "quantization",
    "quantization_config",
    "dtype",
    "torch_dtype",
    "auto_map",
    "model_file",
    "_name_or_path",
)
_DTYPES = {mx.float32: "F32", mx.float16: "F16", mx.bfloat16: "BF16", mx.uint32: "U32"}


def write_base(
    source: Source,
    model: Any,
    folder: Path,
    bits: int | None,
    group_size: int,
    record: Mapping[str, Any] | None = None,
    progress: Progress = quiet,
) -> None:
    """Write a base into `folder`, which exists; `source` loses its layers on the way.

    `model` is the one that will run it; its own weights are not looked at.

    `bits` 4, 6 or 8 pack every matrix, 16 makes it dense in the type it is stored in, 32 in
    float32; None leaves each as it is, packed or dense. `record` is added to config.json.
    `progress` hears how many layers are written, if it is a Meter.
    FormatError for a source that is damaged or does not fit; OptionError for rows that
    groups of `group_size` do not fit; OSError for the disk.
    """
    modules = dict(model.named_modules())
    wanted = shapes_of(model)
    to = {"group_size": group_size, "bits": bits} if bits in PACKED_BITS else None
    if to:
        _check_widths(modules, group_size)
    dtype = mx.float32 if bits == 32 else source.dtype
    found: dict[str, tuple[int, ...]] = {}
    packings: dict[str, Packing | None] = {}
    with SafetensorsWriter(folder / "model.safetensors", {"format": "mlx"}, _room(wanted)) as file:
        for number, path in enumerate(paths := list(source.layers), 1):
            parts = source.layers.pop(path)()
            advance(progress, number, len(paths))
            if path == "lm_head" and path not in modules:  # some files repeat the embedding
                continue
            if path in modules:
                parts, packings[path] = _repack(path, modules[path], parts, to, bits is None)
            found |= dense_shapes(path, parts, packings.get(path))
            for part, tensor in parts.items():
                name = f"{_mlx_lm_path(path, source)}.{part}"
                tensor = _prepare(name, tensor, dtype)
                data = np.asarray(tensor.view(mx.uint8)).data
                file.add(name, _DTYPES[tensor.dtype], tensor.shape, data)
            mx.clear_cache()
        check_fit(wanted, found)
    named = {_mlx_lm_path(path, source): packing for path, packing in packings.items() if packing}
    config = _spell_out(source, model.args, dtype) | _quantization(named) | dict(record or {})
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (folder / "config.json").write_text(text, encoding="utf-8")
    source.tokenizer.save(folder / "tokenizer.json")


def _room(names: Iterable[str]) -> int:
    """Return how long the header may get: numbers have at most 19 digits, and packed, a layer
    of one weight has three tensors."""
    return 1024 + sum(3 * (len(name) + 160) for name in names) // 8 * 8


def _check_widths(modules: Mapping[str, nn.Module], group_size: int) -> None:
    for path, layer in modules.items():
        if is_matrix(layer) and (columns := layer.weight.shape[-1]) % group_size:
            raise OptionError(
                f"rows of {path}.weight have {columns} elements, which groups of {group_size} "
                "do not fit",
                hint="16 bits fit any base.",
            )


def _repack(
    path: str, layer: nn.Module, parts: Tensors, to: Packing | None, keep: bool
) -> tuple[Tensors, Packing | None]:
    """Return a layer packed or dense as wanted, and how; what is packed so already stays."""
    if not is_matrix(layer) or "weight" not in parts:
        return parts, None
    have = infer_packing(path, layer, parts)
    if keep or have == to:
        return parts, have
    if have:
        parts = unpack(parts, have, mx.float32)
    return (pack(parts, to), to) if to else (parts, None)


def _prepare(name: str, tensor: mx.array, dtype: mx.Dtype) -> mx.array:
    """Return a tensor as it is to be written, evaluated; FormatError for NaN and infinity."""
    tensor = mx.contiguous(tensor if tensor.dtype == mx.uint32 else tensor.astype(dtype))
    evaluate([tensor])
    if not all_finite([tensor]):
        raise FormatError(f"the base's {name} holds values that are not finite")
    return tensor


def _mlx_lm_path(path: str, source: Source) -> str:
    prefix = family_of(source.config).prefix
    return MLX_LM_PREFIX + path.removeprefix(prefix) if prefix and path != "lm_head" else path


def _spell_out(source: Source, args: Any, dtype: mx.Dtype) -> dict[str, Any]:
    """Return the source's config with what it leaves to defaults, which mlx-lm has others of."""
    kind, eos = source.config["model_type"], source.eos_ids
    said: dict[str, Any] = {"tie_word_embeddings": args.tied}
    if kind == "gpt2":
        said |= {"n_ctx": args.positions, "n_inner": args.inner}
    else:
        said |= {"head_dim": args.head_dim, "num_key_value_heads": args.kv_heads}
        said |= {"rope_theta": args.theta}  # mlx-lm's llama does not look in rope_parameters
    said["eos_token_id"] = eos[0] if len(eos) == 1 else eos or None
    said["torch_dtype"] = str(dtype).rpartition(".")[2]
    kept = {key: value for key, value in source.config.items() if key not in _DROPPED}
    return {"architectures": [_ARCHITECTURES[kind]]} | kept | said


def _quantization(packings: Mapping[str, Packing]) -> dict[str, Any]:
    """Return mlx-lm's entry: the commonest packing, and under its path each layer of another."""
    if not packings:
        return {}
    ((common, _),) = Counter(tuple(p.items()) for p in packings.values()).most_common(1)
    others = {path: p for path, p in packings.items() if tuple(p.items()) != common}
    return {"quantization": dict(common) | others}
