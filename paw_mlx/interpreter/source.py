"""A base as its files hold it: config, layers, tokenizer; nothing evaluated yet.

Every kind of file becomes the same thing: a Hugging Face config, and layers under Hugging
Face's paths, in which a packed weight is `weight` (uint32), `scales` and `biases`. Weights
are (out, in) whatever the file has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from ..errors import FormatError, NotFound, listed
from ..formats.fingerprint import RECORD
from ..profiles import Profile
from .models import MODELS
from .tokenizer import Tokenizer

Tensors = dict[str, mx.array]
Shapes = Mapping[str, tuple[int, ...]]
MLX_LM_PREFIX = "model."  # where mlx-lm keeps a model whose tensors have a prefix of their own


@dataclass(frozen=True, eq=False)
class Source:
    """A base as read.

    `layers` maps a path (`model.norm`) to what reads its tensors (`weight`): pop it, and the
    memory is free as soon as they are done with. `dtype` is the type of its weights.
    """

    config: dict[str, Any]
    layers: dict[str, Callable[[], Tensors]]
    tokenizer: Tokenizer
    dtype: mx.Dtype

    @property
    def tensors(self) -> Tensors:
        """All tensors, by name."""
        found = ((path, read()) for path, read in self.layers.items())
        return {f"{path}.{part}": t for path, parts in found for part, t in parts.items()}

    @property
    def record(self) -> dict[str, Any]:
        """What was recorded when it was converted; empty for any other base."""
        record = self.config.get(RECORD)
        return record if isinstance(record, dict) else {}

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


def make_model(source: Source) -> tuple[nn.Module, Profile]:
    """The model, weightless, and its profile; made first, for it checks the config's sizes."""
    profile = Profile.from_config(source.config)
    try:
        return source.module.Model(source.module.Args.from_config(source.config)), profile
    except KeyError as error:
        raise FormatError(f"the base's config lacks {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"the base's config is malformed: {error}") from error


def shapes_of(model: nn.Module) -> Shapes:
    """The shapes of a model's tensors, by name."""
    return {name: t.shape for name, t in dict(tree_flatten(model.parameters())).items()}


def check_fit(wanted: Shapes, found: Shapes) -> None:
    """Raise FormatError with every tensor that is missing, surplus or misshapen."""
    wrong = [f"{name} is missing" for name in sorted(wanted.keys() - found.keys())]
    wrong += [f"{name} is unknown" for name in sorted(found.keys() - wanted.keys())]
    wrong += [
        f"{name} is {found[name]}, not {wanted[name]}"
        for name in sorted(wanted.keys() & found.keys())
        if found[name] != wanted[name]
    ]
    if wrong:
        raise FormatError(f"{len(wrong)} of the base's tensors do not fit: {listed(wrong)}")


def evaluate(arrays: Iterable[mx.array]) -> None:
    """Read what is still lazy; only now does a file that was cut short show it."""
    try:
        mx.eval(list(arrays))
    except RuntimeError as error:
        raise FormatError(f"the base's weights are damaged: {error}") from error


def common_dtype(dtypes: Iterable[mx.Dtype]) -> mx.Dtype:
    """The one type for weights (or their scales) of several."""
    stored = set(dtypes) - {mx.uint32}
    if stored == {mx.float32}:
        return mx.float32
    return mx.float16 if mx.float16 in stored and mx.bfloat16 not in stored else mx.bfloat16


def read_directory(path: Path) -> Source:
    """Read a Hugging Face or mlx-community directory of safetensors."""
    config = _json(path / "config.json")
    module = model_module(config)
    if (mode := (config.get("quantization") or {}).get("mode", "affine")) != "affine":
        raise FormatError(f"{path} is quantized in mode {mode}", hint="Only affine is supported.")
    tensors = _tensors(path, module)
    if (path / "generation_config.json").exists():
        generation = _json(path / "generation_config.json")
        config["eos_token_id"] = list(dict.fromkeys(_eos_ids(config) + _eos_ids(generation)))
    # Norms and biases do not count: some files keep them in float32 beside everything else.
    dtype = common_dtype(t.dtype for t in tensors.values() if t.ndim > 1)
    return Source(config, _layers(tensors), Tokenizer.from_file(path / "tokenizer.json"), dtype)


def _layers(tensors: Tensors) -> dict[str, Callable[[], Tensors]]:
    parts: dict[str, Tensors] = {}
    for name, tensor in tensors.items():
        layer, _, part = name.rpartition(".")
        parts.setdefault(layer, {})[part] = tensor
    return {layer: partial(dict, tensors) for layer, tensors in parts.items()}


def _tensors(path: Path, module: ModuleType) -> Tensors:
    """Every tensor, under our names and (out, in)."""
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
            if not any(re.fullmatch(pattern, name) for pattern in module.IGNORED):
                ours, tensor = _named(name, tensor, module)
                tensors[ours] = tensor
    return tensors


def _named(name: str, tensor: mx.array, module: ModuleType) -> tuple[str, mx.array]:
    """A tensor under our name; what mlx-lm named, or is packed, is (out, in) already."""
    prefix = getattr(module, "PREFIX", "")
    if prefix and name.startswith(MLX_LM_PREFIX):
        return prefix + name.removeprefix(MLX_LM_PREFIX), tensor
    name = name if name.startswith((prefix, "lm_head")) else prefix + name
    transposed = re.fullmatch(getattr(module, "TRANSPOSED", "(?!)"), name)
    return name, tensor.T if transposed and tensor.dtype != mx.uint32 else tensor


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
