"""PEFT directories: `adapter_config.json` and `adapter_model.safetensors`.

    base_model.model.<path>.lora_A.weight   (r, d_in)
    base_model.model.<path>.lora_B.weight   (d_out, r)

scale is alpha / r, with rsLoRA alpha / sqrt(r), per module after the patterns. What PEFT
can say and a plain LoRA cannot is refused with its reason: see `REFUSED`.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..adapter import Adapter, Lora, Site
from ..errors import AdapterMismatch, FormatError
from ..profiles import Family, Profile, find_profile
from .sites import Found, by_path, check_complete, commonest, family_of, num_layers, paired
from .tensors import check_float_dtype, float_recoded, matrix, read_safetensors, write_safetensors
from .untrusted import MAX_TEXT_BYTES, json_object, number, read_bytes, shown, string

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# A key of the config that must be absent or empty -> why.
REFUSED = {
    "use_dora": "DoRA rescales the base's weights, which is more than A and B",
    "lora_bias": "it carries biases besides A and B",
    "modules_to_save": "it replaces whole modules of the base",
    "layer_replication": "it runs layers of the base more than once",
    "trainable_token_indices": "it replaces embeddings of the base",
    "target_parameters": "it adapts parameters that are no linear module",
    "use_qalora": "QA-LoRA pools its inputs, which is more than A and B",
    "use_bdlora": "BD-LoRA's matrices are block-diagonal",
    "alora_invocation_tokens": "an activated LoRA works on a part of the tokens only",
    "arrow_config": "Arrow routes among several adapters",
    "kasa_config": "KaSA truncates the base's weights",
    "velora_config": "VeLoRA is more than A and B",
    "monteclora_config": "MonteCLoRA samples its weights",
    "megatron_config": "its matrices are split among Megatron's ranks",
}
# How A and B were initialized -> why that leaves a base other than the published one.
CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_REPEATS = re.compile(r"[*+{]")
_TENSOR = re.compile(r"base_model\.model\.(.+)\.lora_([AB])(?:\.default)?\.weight")


def read(folder: Path, profile: Profile | None) -> Found:
    """Read a PEFT directory; without `profile` the config's base is looked up."""
    config = json_object(read_bytes(folder / CONFIG, MAX_TEXT_BYTES), CONFIG)
    _check_supported(config)
    if not (folder / WEIGHTS).is_file():
        raise FormatError(
            f"{folder} has no {WEIGHTS}",
            hint="A .bin is a torch pickle, which can run code: convert it with "
            "peft's save_pretrained(safe_serialization=True).",
        )
    base = string(config.get("base_model_name_or_path"), "base_model_name_or_path")
    profile = profile or find_profile(base)
    raw = read_safetensors(folder / WEIGHTS, WEIGHTS)
    family = profile.family if profile else family_of(raw, _TENSOR)
    pairs = paired(raw, _TENSOR, family.site_of_path)
    check_complete(pairs, declared(config, family, num_layers(pairs, profile)))
    scaling = _Scaling(config)
    sites = {}
    for site, pair in pairs.items():
        A, B = (matrix(name, raw[name]) for name in pair)
        sites[site] = Lora(A, B, scaling.alpha(site, family.path(site), A.shape[0]))
    return Found(Adapter(sites), base)


def write(adapter: Adapter, folder: Path, profile: Profile, dtype: str | None) -> None:
    """Write a PEFT directory in f32, f16 or bf16, or as stored (None)."""
    check_float_dtype(dtype, "PEFT")
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
            tensors[name] = float_recoded(m, dtype)
    folder.mkdir(exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    write_safetensors(folder / WEIGHTS, tensors, {"format": "pt"})


def _plain(value: float) -> float:
    """An integer where it is one: some readers want it so."""
    return int(value) if value.is_integer() else value


def _targets(adapter: Adapter, profile: Profile) -> list[str]:
    """Modules where each is in every layer of the base, full paths otherwise."""
    family = profile.family
    everywhere = {Site(i, m) for i in range(profile.num_layers) for m in adapter.modules}
    if set(adapter.sites) == everywhere:
        return [family.paths[module] for module in adapter.modules]
    return [family.path(site) for site in sorted(adapter.sites)]


def _check_supported(config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise FormatError(f"peft_type is {shown(kind)}, and only LORA is supported")
    for key, reason in REFUSED.items():
        if config.get(key):
            raise FormatError(f"{key} is not supported: {reason}")
    if config.get("bias", "none") not in ("none", None):
        raise FormatError(f"bias {shown(config['bias'])} is not supported: it changes the base")
    init = config.get("init_lora_weights")
    if isinstance(init, str) and init.lower().startswith(CHANGES_BASE):
        raise FormatError(
            f"init_lora_weights {shown(init)} is not supported: it changed the base's weights",
            hint="Save it with peft's path_initial_model_for_weight_conversion.",
        )


class _Scaling:
    """The alpha of every site, after the patterns and rsLoRA."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.alphas = _Pattern(config, "lora_alpha", "alpha_pattern")
        self.ranks = _Pattern(config, "r", "rank_pattern")
        self.rslora = config.get("use_rslora", False)
        if not isinstance(self.rslora, bool):
            raise FormatError(f"use_rslora is {shown(self.rslora)}, not true or false")

    def alpha(self, site: Site, path: str, rank: int) -> float:
        """The alpha of a site whose A has `rank` rows."""
        declared, alpha = self.ranks.at(path), self.alphas.at(path)
        if declared is not None and declared != rank:
            raise AdapterMismatch(
                f"{CONFIG} gives {site} the rank {declared:g}, and its A has {rank} rows"
            )
        if alpha is None:
            raise FormatError(
                f"{CONFIG} has no lora_alpha, and the scale is alpha / r",
                hint="Add the lora_alpha it was trained with.",
            )
        # alpha / r is the scale everywhere else, so rsLoRA's square root moves into alpha.
        return alpha * math.sqrt(rank) if self.rslora else alpha


class _Pattern:
    """A number of the config, and the pattern that overrides it by path."""

    def __init__(self, config: Mapping[str, Any], key: str, name: str) -> None:
        value, pattern = config.get(key), config.get(name) or {}
        self.default = None if value is None else number(value, key)
        if not isinstance(pattern, dict):
            raise FormatError(f"{name} is {shown(pattern)}, not an object of numbers")
        num_regexes = sum(bool(_REPEATS.search(p)) for p in pattern)
        if len(pattern) > 4096 or num_regexes > 32:
            raise FormatError(
                f"{name} has {len(pattern)} entries, {num_regexes} of them regular "
                "expressions (limits 4096 and 32)"
            )
        self.overrides = [
            (_regex(rf"(?:.*\.)?(?:{p})", name, 3), number(v, name)) for p, v in pattern.items()
        ]

    def at(self, path: str) -> float | None:
        """The number for a path: the first pattern that matches, or the default."""
        return next((v for regex, v in self.overrides if regex.fullmatch(path)), self.default)


def _regex(pattern: str, what: str, most: int) -> re.Pattern[str]:
    """Compile a file's own regular expression, unless it could run for ages."""
    if (
        len(pattern) > 1000
        or re.search(r"\)[*+{]|\\\d", pattern)
        or len(_REPEATS.findall(pattern)) > most
    ):
        raise FormatError(f"{what} has a pattern too elaborate to trust: {shown(pattern)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise FormatError(f"{what} has an invalid pattern: {shown(pattern)}") from error


def declared(config: Mapping[str, Any], family: Family, layers: int) -> Iterator[Site]:
    """Every site the config says there is."""
    targets = _Paths(config.get("target_modules"), "target_modules", family)
    excluded = _Paths(config.get("exclude_modules") or [], "exclude_modules", family)
    only = config.get("layers_to_transform")
    only = [only] if isinstance(only, int) else only
    if not isinstance(only, list | None) or not all(type(i) is int for i in only or ()):
        raise FormatError(f"layers_to_transform is {shown(only)}, not layer numbers")
    for site in (Site(i, m) for i in range(layers) for m in family.modules):
        path = family.path(site)
        chosen = not only or site.layer in only or targets.names(path)
        if chosen and targets.match(path, site) and not excluded.match(path, site):
            yield site


class _Paths:
    """A choice of modules, as PEFT writes it: a list of suffixes, a regex or "all-linear"."""

    def __init__(self, value: object, what: str, family: Family) -> None:
        self.suffixes: frozenset[str] = frozenset()
        self.regex: re.Pattern[str] | None = None
        if value == "all-linear":
            self.suffixes = frozenset(family.paths.values())
        elif isinstance(value, str):
            self.regex = _regex(value, what, 5)
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            self.suffixes = frozenset(value)
        else:
            raise FormatError(f"{what} is {shown(value)}, not a list of modules")

    def names(self, path: str) -> bool:
        return path in self.suffixes

    def match(self, path: str, site: Site) -> bool:
        if self.regex:
            return self.regex.fullmatch(path) is not None
        # The hub's GPT-2 programs list the mapper's module names instead of paths.
        parts = path.split(".")
        ends = (".".join(parts[i:]) for i in range(len(parts)))
        return site.module in self.suffixes or any(end in self.suffixes for end in ends)
