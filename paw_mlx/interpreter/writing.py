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
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..errors import FormatError, OptionError
from .packing import PACKED_BITS, Packing, all_finite, packed, packing_of, unpacked
from .source import MLX_LM_PREFIX, Source, Tensors, check_fit, evaluate, make_model, shapes_of

_ARCHITECTURES = {
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
# What no longer holds of the written base, or names code that a loader may be asked to run.
_DROPPED: tuple[str, ...] = ("quantization", "quantization_config", "dtype", "torch_dtype")
_DROPPED += ("auto_map", "model_file", "_name_or_path")
_DTYPES = {mx.float32: "F32", mx.float16: "F16", mx.bfloat16: "BF16", mx.uint32: "U32"}


def write_base(
    source: Source,
    folder: Path,
    bits: int | None,
    group_size: int,
    record: Mapping[str, Any] | None = None,
) -> None:
    """Write a base into `folder`, which exists; `source` loses its layers on the way.

    `bits` 4, 6 or 8 pack every matrix, 16 makes it dense in the type it is stored in, 32 in
    float32; None leaves each as it is, packed or dense. `record` is added to config.json.
    FormatError for a source that is damaged or does not fit; OptionError for rows that
    groups of `group_size` do not fit; OSError for the disk.
    """
    model, _ = make_model(source)
    modules = dict(model.named_modules())
    wanted = shapes_of(model)
    to = {"group_size": group_size, "bits": bits} if bits in PACKED_BITS else None
    if to:
        _check_widths(modules, group_size)
    dtype = mx.float32 if bits == 32 else source.dtype
    found: dict[str, tuple[int, ...]] = {}
    packings: dict[str, Packing | None] = {}
    with _Safetensors(folder / "model.safetensors", list(wanted)) as file:
        for path in list(source.layers):
            parts = source.layers.pop(path)()
            if path == "lm_head" and path not in modules:  # some files repeat the embedding
                continue
            if path in modules:
                parts, packings[path] = _settled(path, modules[path], parts, to, bits is None)
            found |= _shapes(path, parts, packings.get(path))
            for part, tensor in parts.items():
                name = f"{_mlx_lm_path(path, source)}.{part}"
                file.add(name, _checked(name, tensor, dtype))
            mx.clear_cache()
        check_fit(wanted, found)
    named = {_mlx_lm_path(path, source): packing for path, packing in packings.items() if packing}
    config = _config(source, model.args, dtype) | _quantization(named) | dict(record or {})
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (folder / "config.json").write_text(text, encoding="utf-8")
    source.tokenizer.save(folder / "tokenizer.json")


def _check_widths(modules: Mapping[str, nn.Module], group_size: int) -> None:
    for path, layer in modules.items():
        if _is_matrix(layer) and (columns := layer.weight.shape[-1]) % group_size:
            raise OptionError(
                f"rows of {path}.weight have {columns} elements, which groups of {group_size} "
                "do not fit",
                hint="16 bits fit any base.",
            )


def _is_matrix(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear | nn.Embedding)


def _settled(
    path: str, layer: nn.Module, parts: Tensors, to: Packing | None, keep: bool
) -> tuple[Tensors, Packing | None]:
    """A layer packed or dense as wanted, and how; what is packed so already stays as it is."""
    if not _is_matrix(layer) or "weight" not in parts:
        return parts, None
    have = packing_of(path, layer, parts)
    if keep or have == to:
        return parts, have
    if have:
        parts = unpacked(parts, have, mx.float32)
    return (packed(parts, to), to) if to else (parts, None)


def _shapes(path: str, parts: Tensors, packing: Packing | None) -> dict[str, tuple[int, ...]]:
    """The shapes that a layer's tensors have when it is dense."""
    shapes = {f"{path}.{part}": tensor.shape for part, tensor in parts.items()}
    if packing:
        *rows, groups = shapes.pop(f"{path}.scales")
        del shapes[f"{path}.biases"]
        shapes[f"{path}.weight"] = (*rows, groups * packing["group_size"])
    return shapes


def _checked(name: str, tensor: mx.array, dtype: mx.Dtype) -> mx.array:
    """A tensor as it is to be written, evaluated; FormatError for NaN and infinity."""
    tensor = mx.contiguous(tensor if tensor.dtype == mx.uint32 else tensor.astype(dtype))
    evaluate([tensor])
    if not all_finite([tensor]):
        raise FormatError(f"the base's {name} holds values that are not finite")
    return tensor


def _mlx_lm_path(path: str, source: Source) -> str:
    prefix = getattr(source.module, "PREFIX", None)
    return MLX_LM_PREFIX + path.removeprefix(prefix) if prefix and path != "lm_head" else path


def _config(source: Source, args: Any, dtype: mx.Dtype) -> dict[str, Any]:
    """The source's config with what it leaves to defaults, which mlx-lm has others of."""
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
    """mlx-lm's entry: the most common packing, and under its path each layer of another."""
    if not packings:
        return {}
    ((common, _),) = Counter(tuple(p.items()) for p in packings.values()).most_common(1)
    others = {path: p for path, p in packings.items() if tuple(p.items()) != common}
    return {"quantization": dict(common) | others}


class _Safetensors:
    """A safetensors file of any size, written tensor by tensor; the header comes last.

    Room is left for it: names are known, numbers have at most 19 digits, and a layer of one
    weight has three tensors when it is packed. JSON may end in spaces.
    """

    def __init__(self, path: Path, names: list[str]) -> None:
        self._room = 1024 + sum(3 * (len(name) + 160) for name in names) // 8 * 8
        self._file, self._at = path.open("wb"), 0
        self._header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
        self._file.seek(8 + self._room)

    def add(self, name: str, tensor: mx.array) -> None:
        """Write an evaluated, contiguous tensor."""
        self._header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": tensor.shape,
            "data_offsets": [self._at, self._at + tensor.nbytes],
        }
        self._file.write(np.asarray(tensor.view(mx.uint8)).data)
        self._at += tensor.nbytes

    def __enter__(self) -> _Safetensors:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        with self._file:
            if kind is None:
                text = json.dumps(self._header, separators=(",", ":")).encode()
                self._file.seek(0)
                self._file.write(self._room.to_bytes(8, "little") + text.ljust(self._room))
