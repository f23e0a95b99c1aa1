"""mlx-lm's adapter directories: `adapter_config.json` and `adapters.safetensors`.

    <layers>.<i>.<path>.lora_a   (d_in, r)      transposed: y += scale * (x @ a) @ b
    <layers>.<i>.<path>.lora_b   (r, d_out)

One rank and one scale for all sites: smaller ranks are padded, other scales folded into b.
mlx-lm loads an incomplete file without a word; here every site it would have adapted must be
there. Beside them a training leaves `0000100_adapters.safetensors` and so on, which are read
when they are named. Older mlx-lm said `lora_layers` for `num_layers`, adapted q and v alone
unless told otherwise, and multiplied an `alpha` in. The dtype `mlx-q4`, which mlx-lm does not
know, keeps A and B packed in 4 bits, in the canonical orientation, as `lora_A` and `lora_B`
(see `mlx_q4`).
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..adapter import Adapter, Lora, Matrix, Site, row_bytes
from ..errors import AdapterMismatch, FormatError
from ..families import Family
from ..profiles import Profile, find_profile
from . import mlx_q4
from .gguf import check_blocks, recode
from .mlx_folders import CONFIG, WEIGHTS, refuse_missing
from .sites import (
    Found,
    check_complete,
    commonest,
    factor,
    family_of,
    fill,
    fold,
    num_layers,
    pair_names,
)
from .tensors import FLOATS, Later, Raw, Stored, matrix, read_safetensors, write_safetensors
from .untrusted import MAX_TEXT_BYTES, json_object, number, read_bytes, shown

_OLD_KEYS = ({"q_proj", "v_proj"}, {"c_attn"})  # what mlx-lm adapted until autumn 2025
_LAYERS = {"gpt2": "model.h"}  # where mlx-lm keeps its layers, if not where Hugging Face does
DTYPES = (*FLOATS, mlx_q4.DTYPE)
_TENSOR = re.compile(r"(.+)\.lora_([ab])")
_PACKED = re.compile(r"(.+)\.lora_([AB])\.weight")


def read(path: Path, profile: Profile | None) -> Found:
    """Read an mlx-lm adapter, a folder or one numbered checkpoint in it.

    Without `profile` the config's model is looked up.
    """
    folder, weights = (path, WEIGHTS) if path.is_dir() else (path.parent, path.name)
    if not (folder / weights).exists():
        refuse_missing(folder)
    config = json_object(read_bytes(folder / CONFIG, MAX_TEXT_BYTES), CONFIG)
    rank, scale, keys = _read_parameters(config)
    base = config.get("model")
    base = base if isinstance(base, str) else ""
    profile = profile or find_profile(base)
    raw = read_safetensors(folder / weights, weights)
    is_packed = _is_packed(config)
    pattern = _PACKED if is_packed else _TENSOR
    family = _find_family(raw, pattern, profile)
    names = [n for n in raw if not (is_packed and n.endswith((".scales", ".biases")))]
    pairs = pair_names(names, pattern, family.site_of_path)
    if keys is None and {site.module for site in pairs} in _OLD_KEYS:
        keys = sorted({family.paths[site.module] for site in pairs})
    check_complete(pairs, _declared_sites(config, keys, family, num_layers(pairs, profile)))
    take = _take_packed if is_packed else _take
    sites = {}
    for site, pair in pairs.items():
        A, B = (take(name, raw) for name in pair)
        if A.shape[0] != rank:
            raise AdapterMismatch(
                f"{CONFIG} gives the rank {rank:g}, and lora_a of {site} has {A.shape[0]}"
            )
        sites[site] = Lora(A, B, scale * A.shape[0])
    if raw:
        raise AdapterMismatch(f"{len(raw)} tensors belong to no A or B: {shown(sorted(raw))}")
    return Found(Adapter(sites), base)


def write(adapter: Adapter, folder: Path, profile: Profile, dtype: str | None) -> None:
    """Write an mlx-lm adapter in one of `DTYPES`, or as stored (None; 4 and 8 bits as f32)."""
    family = _in_mlx(profile.family)
    first, rank = adapter.layers[0], adapter.ranks[-1]
    span = range(first, profile.num_layers)
    adapter = fill(adapter, [Site(i, m) for i in span for m in adapter.modules], profile)
    scale = commonest(lora.scale for lora in adapter.sites.values()) or 1.0
    is_packed = dtype == mlx_q4.DTYPE
    check_blocks(adapter, "q4_0" if is_packed else None)
    to_write = _pack if is_packed else _transposed_later
    tensors: dict[str, Stored] = {}
    for site, lora in adapter.sites.items():
        name = f"{family.path(site)}.lora_"
        tensors |= to_write(f"{name}a", lora.A, (rank, lora.A.shape[1]), 1.0, dtype)
        times = factor(lora.scale, scale)
        tensors |= to_write(f"{name}b", lora.B, (lora.B.shape[0], rank), times, dtype)
    config: dict[str, Any] = {
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
    if is_packed:
        config["quantization"] = mlx_q4.QUANTIZATION
    folder.mkdir(exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    write_safetensors(folder / WEIGHTS, tensors, {"format": "mlx"})


def _transposed_later(
    name: str, m: Matrix, shape: tuple[int, int], times: float, dtype: str | None
) -> dict[str, Stored]:
    """Return a float matrix to be written: multiplied, padded to `shape` and transposed."""
    wanted = dtype or (m.dtype if m.dtype in FLOATS and times == 1 else "f32")

    def made() -> Matrix:
        return _transpose(_pad(recode(fold(m, times), wanted), shape))

    return {name: Later.matrix(wanted, shape[::-1], made)}


def _pack(
    name: str, m: Matrix, shape: tuple[int, int], times: float, dtype: str | None
) -> dict[str, Stored]:
    """Return the parts of a matrix to be written in 4 bits; its blocks are made here."""
    stem, half = name[:-1], name[-1].upper()
    parts = mlx_q4.pack(_pad(recode(fold(m, times), "q4_0"), shape))
    return {f"{stem}{half}.{part}": tensor for part, tensor in parts.items()}


def _take(name: str, raw: dict[str, Raw]) -> Matrix:
    """Take a float matrix out of `raw`, in the canonical orientation."""
    return _transpose(matrix(name, raw.pop(name)))


def _take_packed(name: str, raw: dict[str, Raw]) -> Matrix:
    """Take the parts of a 4-bit matrix out of `raw`; `name` is that of its weight."""
    stem = name.removesuffix("weight")
    if missing := [part for part in mlx_q4.PARTS if stem + part not in raw]:
        raise AdapterMismatch(f"the packed {shown(name)} has no {' and no '.join(missing)}")
    return mlx_q4.unpack(name, {part: raw.pop(stem + part) for part in mlx_q4.PARTS})


def _is_packed(config: Mapping[str, Any]) -> bool:
    """Return whether A and B are packed in 4 bits; FormatError if in another way."""
    given = config.get("quantization")
    if given not in (None, mlx_q4.QUANTIZATION):
        raise FormatError(
            f"quantization is {shown(given)}, and adapters are packed as {mlx_q4.QUANTIZATION}"
        )
    return given is not None


def _transpose(m: Matrix) -> Matrix:
    """Return the transpose, still as stored: elements of two or four bytes change places."""
    size = m.data.shape[1] // m.shape[1]
    turned = m.data.reshape(*m.shape, size).transpose(1, 0, 2)
    rows, columns = m.shape[1], m.shape[0]
    return Matrix(m.dtype, (rows, columns), np.ascontiguousarray(turned).reshape(rows, -1))


def _pad(m: Matrix, shape: tuple[int, int]) -> Matrix:
    """Return a matrix with zeros up to a shape; bytes of zero are zeros in every dtype."""
    if m.shape == shape:
        return m
    added = shape[0] - m.shape[0], row_bytes(m.dtype, shape[1]) - m.data.shape[1]
    return Matrix(m.dtype, shape, np.pad(m.data, [(0, extra) for extra in added]))


def _in_mlx(family: Family) -> Family:
    """Return a family with its layers where mlx-lm has them."""
    return dataclasses.replace(family, layers=_LAYERS.get(family.name, family.layers))


def _find_family(names: Iterable[str], pattern: re.Pattern[str], profile: Profile | None) -> Family:
    if profile:
        return _in_mlx(profile.family)
    given = re.compile(rf"^{re.escape(_LAYERS['gpt2'])}\b")
    return _in_mlx(family_of([given.sub("transformer.h", name) for name in names], pattern))


def _read_parameters(config: Mapping[str, Any]) -> tuple[float, float, list[str] | None]:
    """Return rank, scale and keys; FormatError for what is no plain LoRA."""
    kind = "dora" if config.get("use_dora") else config.get("fine_tune_type", "lora")
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
    rank, scale = number(given["rank"], "rank"), number(given["scale"], "scale")
    if "alpha" in given and "num_layers" not in config:
        _check_alpha(number(given["alpha"], "alpha"), rank, scale)
    return rank, scale, keys


def _check_alpha(alpha: float, rank: float, scale: float) -> None:
    """Raise FormatError for an old config's alpha, unless it changes nothing.

    mlx-lm multiplied by scale * alpha / rank first, then by scale alone, and wrote the same config.
    """
    if alpha != rank and rank:
        raise FormatError(
            f"lora_parameters has an alpha of {alpha:g} besides the scale {scale:g}, and mlx-lm of "
            "its time multiplied by it at first, and later did not",
            hint=f"Of early 2024: set scale to {scale * alpha / rank:g} and take alpha out. "
            "Later: take alpha out.",
        )


def _declared_sites(
    config: Mapping[str, Any], keys: list[str] | None, family: Family, layers: int
) -> list[Site]:
    """Return every site that mlx-lm would adapt.

    The keys (or all modules) of the last layers, and sites that keys name by their whole path.
    """
    last = config.get("num_layers", config.get("lora_layers"))
    if type(last) is not int:
        raise FormatError(f"num_layers is {shown(last)}, not a whole number")
    first = max(layers - last, 0) if last > 0 else 0
    modules = {path: module for module, path in family.paths.items()}
    keys = list(modules) if keys is None else keys
    alone = {key: site for key in keys if (site := family.site_of_path(key))}
    unknown = [key for key in keys if key not in modules and key not in alone]
    if unknown:
        raise AdapterMismatch(
            f"keys names {shown(unknown)}, and {family.name} has no such linear module"
        )
    everywhere = [modules[key] for key in keys if key in modules]
    return [*alone.values(), *(Site(i, m) for i in range(first, layers) for m in everywhere)]
