"""A GGUF base: its metadata as a config, its blocks as MLX packs them, its tokenizer.

Q4_0, Q4_1 and Q8_0 map one to one onto MLX's affine packing in groups of 32, exactly:
w = scale * code + bias. Other quantized types are decoded, some rows at a time, and may be
packed again on the way. Llama's q and k rows come in GGUF's rotary order and are put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ...adapter import Site
from ...errors import FormatError
from ...families import FAMILIES, Family
from ...formats.gguf_reader import GGUFTensor, read_gguf
from ...formats.untrusted import shown
from ...profiles import Profile
from .packing import PARTS, Packing
from .source import Source
from .tensors import Tensors, common_dtype
from .tokenizer import Tokenizer

# Hugging Face's config key -> GGUF's, below the architecture; `?` marks optional ones.
_LLAMA_KEYS = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length?",
    "intermediate_size": "feed_forward_length",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
}
_GPT2_KEYS = {
    "n_embd": "embedding_length",
    "n_layer": "block_count",
    "n_head": "attention.head_count",
    "n_inner": "feed_forward_length",
    "n_positions": "context_length",
    "layer_norm_epsilon": "attention.layer_norm_epsilon",
}
_PACKED = ("Q4_0", "Q4_1", "Q8_0")
_FLOATS = {"F32": mx.float32, "F16": mx.float16}
_STORED = (*_PACKED, *_FLOATS, "BF16")  # what MLX has, too; all else is decoded
_CHUNK = 1 << 18  # elements decoded at once: with their temporaries they fit a core's cache


def read_gguf_base(path: Path, repack: Packing | None = None) -> Source:
    """Read a GGUF base; FormatError if it is damaged, an adapter, or of another family.

    What has to be decoded comes in float32, or packed as `repack` says.
    """
    file = read_gguf(path)
    # Any value may be an array, which has no truth.
    if (kind := str(file.metadata.get("general.type", "model"))) != "model":
        raise FormatError(f"{path} is a GGUF {shown(kind)}, not a base")
    family = FAMILIES.get(str(file.metadata.get("general.architecture")))
    if family is None:
        raise FormatError(
            f"{path} has the architecture {shown(file.metadata.get('general.architecture'))}",
            hint=f"Supported: {', '.join(FAMILIES)}.",
        )
    config = _read_config(file.metadata, family, file.tensors)
    names = _layer_paths(family, Profile.from_config(config).num_layers)
    stored: dict[str, dict[str, GGUFTensor]] = {}
    for name, tensor in file.tensors.items():
        stem, _, kind = name.rpartition(".")
        if stem not in names:
            raise FormatError(f"{path} holds the unknown tensor {shown(name)}")
        stored.setdefault(names[stem], {})[kind] = tensor
    layers: dict[str, Callable[[], Tensors]] = {
        layer: partial(_read_layer, layer, tensors, config, family, repack)
        for layer, tensors in stored.items()
    }
    return Source(
        config,
        layers,
        Tokenizer.from_gguf(file.metadata),
        _weight_dtype(file.tensors),
        decoded=any(tensor.type_name not in _STORED for tensor in file.tensors.values()),
    )


def _read_config(
    metadata: Mapping[str, Any], family: Family, tensors: Mapping[str, GGUFTensor]
) -> dict[str, Any]:
    config: dict[str, Any] = {"model_type": family.name}
    for ours, theirs in (_GPT2_KEYS if family.name == "gpt2" else _LLAMA_KEYS).items():
        key = f"{family.name}.{theirs.rstrip('?')}"
        if key in metadata:
            config[ours] = metadata[key]
        elif not theirs.endswith("?"):
            raise FormatError(f"the GGUF base lacks the key {key}")
    if str(metadata.get(f"{family.name}.rope.scaling.type", "none")) != "none":
        raise FormatError("rope scaling in a GGUF base is not supported")
    if "token_embd.weight" not in tensors:
        raise FormatError("the GGUF base lacks the tensor token_embd.weight")
    config["vocab_size"] = tensors["token_embd.weight"].shape[0]
    config["tie_word_embeddings"] = "output.weight" not in tensors
    config["eos_token_id"] = metadata.get("tokenizer.ggml.eos_token_id")
    return config


def _layer_paths(family: Family, num_layers: int) -> dict[str, str]:
    """Map GGUF's stems to Hugging Face's paths: the family's sites, and what its model adds."""
    sites = [Site(i, module) for i in range(num_layers) for module in family.modules]
    names = {family.gguf_name(site): family.path(site) for site in sites}
    for ours, theirs in family.others.items():
        names |= {theirs.format(i): ours.format(i) for i in range(num_layers)}
    return names


def _weight_dtype(tensors: Mapping[str, GGUFTensor]) -> mx.Dtype:
    """Return float16 beside packed blocks, whose scales it is; others count as bfloat16."""
    kinds = {tensor.type_name for tensor in tensors.values() if len(tensor.shape) == 2}
    if kinds & set(_PACKED):
        return mx.float16
    return common_dtype(_FLOATS.get(kind, mx.bfloat16) for kind in kinds)


def _read_layer(
    path: str,
    stored: Mapping[str, GGUFTensor],
    config: Mapping[str, Any],
    family: Family,
    repack: Packing | None,
) -> Tensors:
    """Return the tensors of one layer, decoded or packed."""
    return {
        part: _unpermute(array, path, config, family)
        for kind, tensor in stored.items()
        for part, array in _read_parts(tensor, kind, repack).items()
    }


def _read_parts(tensor: GGUFTensor, kind: str, repack: Packing | None) -> Tensors:
    """Return a tensor's parts under the names of its layer: it alone, or a packed triple."""
    if tensor.type_name in _PACKED and len(tensor.shape) == 2:
        return _repack(tensor)
    if tensor.type_name == "F16":
        return {kind: mx.array(tensor.data.view("<f2").reshape(tensor.shape))}
    if tensor.type_name == "BF16":
        raw = mx.array(tensor.data.view("<u2").reshape(tensor.shape))
        return {kind: raw.view(mx.bfloat16)}
    if tensor.type_name not in _STORED and len(tensor.shape) == 2:
        return _decode(tensor, kind, repack)
    return {kind: mx.array(tensor.dense())}


def _decode(tensor: GGUFTensor, kind: str, repack: Packing | None) -> Tensors:
    """Decode a matrix; `repack` packs some rows before the next are decoded."""
    if repack is None:
        dense, at = np.empty(tensor.shape, np.float32), 0
        for rows in _decode_rows(tensor):
            dense[at : at + len(rows)] = rows
            at += len(rows)
        return {kind: mx.array(dense)}
    packed = []
    for rows in _decode_rows(tensor):
        packed.append(mx.quantize(mx.array(rows), **repack))
        mx.eval(packed[-1])
    return {part: mx.concatenate([some[i] for some in packed]) for i, part in enumerate(PARTS)}


def _decode_rows(tensor: GGUFTensor) -> Iterator[np.ndarray]:
    """Yield a matrix in float32, some rows at a time: as a whole it takes ten times as long."""
    rows, columns = tensor.shape
    data, step = tensor.data.reshape(rows, -1), max(1, _CHUNK // columns)
    for start in range(0, rows, step):
        some = data[start : start + step]
        yield replace(tensor, shape=(len(some), columns), data=some.reshape(-1)).dense()


def _repack(tensor: GGUFTensor) -> Tensors:
    """Turn blocks of 32 into uint32 codes (rows, words), scales and biases (rows, groups)."""
    rows, columns = tensor.shape
    kind, groups = tensor.type_name, (rows, columns // 32)
    blocks = np.asarray(tensor.data).reshape(rows * columns // 32, -1)  # (blocks, bytes)
    scales = np.ascontiguousarray(blocks[:, :2]).view("<f2").reshape(groups)
    if kind == "Q8_0":
        codes, biases = blocks[:, 2:] ^ 0x80, scales * np.float16(-128)
    else:
        start = 4 if kind == "Q4_1" else 2
        nibbles = np.hstack([blocks[:, start:] & 15, blocks[:, start:] >> 4])  # (blocks, 32)
        codes = nibbles[:, 0::2] | nibbles[:, 1::2] << 4  # (blocks, 16)
        biases = (
            np.ascontiguousarray(blocks[:, 2:4]).view("<f2").reshape(groups)
            if kind == "Q4_1"
            else scales * np.float16(-8)
        )
    words = np.ascontiguousarray(codes).reshape(rows, -1).view("<u4")
    return {"weight": mx.array(words), "scales": mx.array(scales), "biases": mx.array(biases)}


def _unpermute(array: mx.array, path: str, config: Mapping[str, Any], family: Family) -> mx.array:
    """Put rows back: in a head GGUF pairs neighbours (D/2, 2), Hugging Face halves (2, D/2)."""
    site = family.site_of_path(path)
    if site is None or site.module not in family.permuted:
        return array
    kv = site.module == "k_proj"
    heads = config["num_key_value_heads" if kv else "num_attention_heads"]
    if array.shape[0] % (2 * heads):
        raise FormatError(f"{path} has {array.shape[0]} rows, which {heads} heads do not divide")
    rows = array.reshape(heads, -1, 2, array.shape[-1])  # (heads, D/2, 2, columns)
    return rows.swapaxes(1, 2).reshape(array.shape)
