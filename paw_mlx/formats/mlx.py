"""mlx-lm's adapter directories: `adapter_config.json` and `adapters.safetensors`.

    <layers>.<i>.<path>.lora_a   (d_in, r)      transposed: y += scale * (x @ a) @ b
    <layers>.<i>.<path>.lora_b   (r, d_out)

One rank and one scale for all sites, and always the last `num_layers` layers. mlx-lm loads
an incomplete file without a word; here every site it would have adapted must be there.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..adapter import Adapter, Lora, Matrix, Site
from ..errors import AdapterMismatch, FormatError
from ..profiles import Family, Profile, find_profile
from .sites import Found, check_complete, commonest, family_of, filled, folded, num_layers, paired
from .tensors import (
    Raw,
    check_float_dtype,
    float_matrix,
    float_recoded,
    matrix,
    read_safetensors,
    write_safetensors,
)
from .untrusted import MAX_TEXT_BYTES, json_object, number, read_bytes, shown

CONFIG, WEIGHTS = "adapter_config.json", "adapters.safetensors"
_LAYERS = {"gpt2": "model.h"}  # where mlx-lm keeps its layers, if not where Hugging Face does
_TENSOR = re.compile(r"(.+)\.lora_([ab])")


def read(folder: Path, profile: Profile | None) -> Found:
    """Read an mlx-lm adapter; without `profile` the config's model is looked up."""
    config = json_object(read_bytes(folder / CONFIG, MAX_TEXT_BYTES), CONFIG)
    rank, scale, keys = _parameters(config)
    base = config.get("model")
    base = base if isinstance(base, str) else ""
    profile = profile or find_profile(base)
    raw = read_safetensors(folder / WEIGHTS, WEIGHTS)
    family = _family(raw, profile)
    pairs = paired(raw, _TENSOR, family.site_of_path)
    check_complete(pairs, _declared(config, keys, family, num_layers(pairs, profile)))
    sites = {}
    for site, pair in pairs.items():
        A, B = (_transposed(matrix(name, raw[name])) for name in pair)
        if A.shape[0] != rank:
            raise AdapterMismatch(
                f"{CONFIG} gives the rank {rank:g}, and lora_a of {site} has {A.shape[0]}"
            )
        sites[site] = Lora(A, B, scale * A.shape[0])
    return Found(Adapter(sites), base)


def write(adapter: Adapter, folder: Path, profile: Profile, dtype: str | None) -> None:
    """Write an mlx-lm adapter in f32, f16 or bf16, or as stored (None)."""
    check_float_dtype(dtype, "MLX")
    family = _in_mlx(profile.family)
    first, rank = adapter.layers[0], adapter.ranks[-1]
    span = range(first, profile.num_layers)
    adapter = filled(adapter, [Site(i, m) for i in span for m in adapter.modules], profile)
    scale = commonest(lora.scale for lora in adapter.sites.values()) or 1.0
    tensors = {}
    for site, lora in adapter.sites.items():
        halves = _padded(lora.A, rank, 0), _padded(folded(lora.B, lora.scale / scale), rank, 1)
        for half, m in zip("ab", halves, strict=True):
            name = f"{family.path(site)}.lora_{half}"
            tensors[name] = _transposed(float_recoded(m, dtype))
    config = {
        "fine_tune_type": "lora",
        "model": profile.repo,
        "num_layers": len(span),
        "lora_parameters": {
            "rank": rank,
            "scale": scale,
            "dropout": 0.0,
            "keys": [family.paths[module] for module in adapter.modules],
        },
    }
    folder.mkdir(exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    write_safetensors(folder / WEIGHTS, tensors, {"format": "mlx"})


def _transposed(m: Matrix) -> Matrix:
    """The transpose, still as stored: elements of one, two or four bytes change places."""
    size = m.data.shape[1] // m.shape[1]
    turned = m.data.reshape(*m.shape, size).transpose(1, 0, 2)
    rows, columns = m.shape[1], m.shape[0]
    return Matrix(m.dtype, (rows, columns), np.ascontiguousarray(turned).reshape(rows, -1))


def _padded(m: Matrix, rank: int, axis: int) -> Matrix:
    """A matrix with zeros up to `rank` along an axis."""
    if m.shape[axis] == rank:
        return m
    widths = [(0, 0), (0, 0)]
    widths[axis] = (0, rank - m.shape[axis])
    m = float_recoded(m, None)
    return float_matrix(np.pad(m.dense(), widths), m.dtype)


def _in_mlx(family: Family) -> Family:
    return dataclasses.replace(family, layers=_LAYERS.get(family.name, family.layers))


def _family(raw: Mapping[str, Raw], profile: Profile | None) -> Family:
    if profile:
        return _in_mlx(profile.family)
    if any(name.startswith(f"{_LAYERS['gpt2']}.") for name in raw):
        names = [name.replace(_LAYERS["gpt2"], "transformer.h", 1) for name in raw]
    else:
        names = list(raw)
    return _in_mlx(family_of(names, _TENSOR))


def _parameters(config: Mapping[str, Any]) -> tuple[float, float, list[str] | None]:
    """Rank, scale and keys; FormatError for what is no plain LoRA."""
    kind = config.get("fine_tune_type", "lora")
    if kind != "lora":
        raise FormatError(f"fine_tune_type is {shown(kind)}, and only lora is supported")
    given = config.get("lora_parameters")
    if not isinstance(given, dict):
        raise FormatError(f"{CONFIG} has no lora_parameters, so neither rank nor scale")
    if missing := [key for key in ("rank", "scale") if key not in given]:
        raise FormatError(f"{CONFIG} has no {' and no '.join(missing)} in lora_parameters")
    keys = given.get("keys")
    if keys is not None and not (
        isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    ):
        raise FormatError(f"keys is {shown(keys)}, not a list of modules")
    return number(given["rank"], "rank"), number(given["scale"], "scale"), keys


def _declared(
    config: Mapping[str, Any], keys: list[str] | None, family: Family, layers: int
) -> Iterator[Site]:
    """Every site mlx-lm would adapt: the keys (or all modules) of the last layers."""
    last = config.get("num_layers")
    if type(last) is not int:
        raise FormatError(f"num_layers is {shown(last)}, not a whole number")
    first = max(layers - last, 0) if last > 0 else 0
    modules = {path: module for module, path in family.paths.items()}
    unknown = [key for key in keys or () if key not in modules]
    if unknown:
        raise AdapterMismatch(
            f"keys names {shown(unknown)}, and {family.name} has no such linear module"
        )
    chosen = [modules[key] for key in keys] if keys is not None else list(family.modules)
    return (Site(i, m) for i in range(first, layers) for m in chosen)
