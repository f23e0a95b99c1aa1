"""PEFT directories: `adapter_config.json` and `adapter_model.safetensors`.

    base_model.model.<path>.lora_A.weight   (r, d_in)
    base_model.model.<path>.lora_B.weight   (d_out, r)

scale is alpha / r, with rsLoRA alpha / sqrt(r), per module after the patterns. What PEFT
can say and a plain LoRA cannot is refused with its reason and a way out: `peft_refusals`
has the tables. The torch pickles of older PEFT are read by `paw_mlx.convert`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..adapter import Adapter, Lora, Matrix, Site
from ..errors import FormatError
from ..profiles import Profile, find_profile
from .lora_names import locate
from .peft_config import Scaling, declared_sites
from .peft_refusals import check_config, check_only_lora, check_tensors
from .sites import Found, Pair, by_path, check_complete, commonest, num_layers
from .tensors import FLOATS, Later, Raw, matrix, read_safetensors, recode_float, write_safetensors
from .untrusted import MAX_TEXT_BYTES, json_object, read_bytes, shown, string

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def read(folder: Path, profile: Profile | None) -> Found:
    """Read a PEFT directory; without `profile` the config's base is looked up."""
    config = read_config(folder)
    if not (folder / WEIGHTS).is_file():
        raise FormatError(
            f"{folder} has no {WEIGHTS}",
            hint="A .bin is a torch pickle: `paw-mlx convert` reads it, and executes nothing.",
        )
    return adapter_of(config, read_safetensors(folder / WEIGHTS, WEIGHTS), profile)


def read_config(folder: Path) -> dict[str, Any]:
    """Read a folder's adapter_config.json; FormatError for one of more than a plain LoRA."""
    config = json_object(read_bytes(folder / CONFIG, MAX_TEXT_BYTES), CONFIG)
    check_config(config)
    return config


def adapter_of(
    config: Mapping[str, Any], tensors: Mapping[str, Raw | Matrix], profile: Profile | None
) -> Found:
    """Return the adapter that a checked config and its tensors are, each asked for once.

    FormatError for what is no plain LoRA, AdapterMismatch for what does not fit the config.
    """
    check_tensors(tensors)
    check_only_lora(tensors)
    base = string(config.get("base_model_name_or_path"), "base_model_name_or_path")
    profile = profile or find_profile(base)
    pairs, family = locate(tensors, profile)
    if not pairs:
        raise FormatError(
            "the adapter has no A and B at all",
            hint="It was saved empty: take an earlier checkpoint of its training.",
        )
    check_complete(pairs, declared_sites(config, family, num_layers(pairs, profile)))
    scaling, sites = Scaling(config), {}
    for site, pair in pairs.items():
        A, B = matrices(tensors, pair)
        sites[site] = Lora(A, B, scaling.alpha(site, family.path(site), A.shape[0]))
    return Found(Adapter(sites), base)


def matrices(tensors: Mapping[str, Raw | Matrix], pair: Pair) -> tuple[Matrix, Matrix]:
    """Return A and B of one site; FormatError where they are no float matrices."""
    A, B = (_matrix(name, tensors[name]) for name in pair)
    return A, B


def _matrix(name: str, tensor: Raw | Matrix) -> Matrix:
    if isinstance(tensor, Matrix):
        return tensor
    if 0 in tensor.shape:
        raise FormatError(
            f"the tensor {shown(name)} is empty, of shape {tensor.shape}",
            hint="DeepSpeed ZeRO-3 and FSDP save it so unless the shards are gathered first.",
        )
    return matrix(name, tensor)


def write(adapter: Adapter, folder: Path, profile: Profile, dtype: str | None) -> None:
    """Write a PEFT directory in f32, f16 or bf16, or as stored (None)."""
    loras = by_path(adapter, profile.family)
    rank = int(commonest(lora.rank for lora in loras.values()))
    alpha = commonest(lora.alpha for lora in loras.values())
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": profile.repo,
        "r": rank,
        "lora_alpha": _plain(alpha),
        "target_modules": _targets(adapter, profile),
        "rank_pattern": {p: lora.rank for p, lora in loras.items() if lora.rank != rank},
        "alpha_pattern": {p: _plain(o.alpha) for p, o in loras.items() if o.alpha != alpha},
        "use_rslora": False,
        "use_dora": False,
        "bias": "none",
        "fan_in_fan_out": profile.family.name == "gpt2",
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "inference_mode": True,
    }
    tensors = {}
    for path, lora in loras.items():
        for half, m in (("A", lora.A), ("B", lora.B)):
            name = f"base_model.model.{path}.lora_{half}.weight"
            wanted = dtype or (m.dtype if m.dtype in FLOATS else "f32")
            tensors[name] = Later.matrix(wanted, m.shape, partial(recode_float, m, wanted))
    folder.mkdir(exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    write_safetensors(folder / WEIGHTS, tensors, {"format": "pt"})


def _plain(value: float) -> float:
    """Return an integer where it is one: some readers want it so."""
    return int(value) if value.is_integer() else value


def _targets(adapter: Adapter, profile: Profile) -> list[str]:
    """Return modules where each is in every layer of the base, full paths otherwise."""
    family = profile.family
    everywhere = {Site(i, m) for i in range(profile.num_layers) for m in adapter.modules}
    if set(adapter.sites) == everywhere:
        return [family.paths[module] for module in adapter.modules]
    return [family.path(site) for site in sorted(adapter.sites)]
