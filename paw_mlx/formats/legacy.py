"""The legacy container, `PAW\\x02`: a JSON record and safetensors. Read only.

    b"PAW\\x02"   u32 version (2)   u32 JSON bytes   JSON   safetensors
    lora_<path>.lora_A   (r, d_in)      lora_<path>.lora_B   (d_out, r)

It holds no template; the prompt is rendered as its own runtime did, in the base's turn. A
program whose prefix is a KV cache cannot be had as a prompt and a LoRA: it is refused.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..adapter import Adapter, Lora, missing_sites
from ..errors import AdapterMismatch, FormatError
from ..profiles import Profile, find_profile
from ..program import Program
from ..prompts import template
from .peft_config import declared_sites
from .sites import Found, check_complete, family_of, num_layers, pair_names
from .tensors import MAX_FILE_BYTES, Raw, matrix, read_safetensors
from .untrusted import MAX_TEXT_BYTES, json_object, map_bytes, number, shown, string

MAGIC = b"PAW\x02"
_TENSOR = re.compile(r"lora_(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.weight)?")
_PREFIX = re.compile(r"layer_\d+_(key|value)")
_KEPT = ("description", "author", "tags", "examples", "source")


def read(path: Path, profile: Profile | None) -> Found:
    """Read the adapter of a legacy container."""
    record, raw = _read_contents(path)
    return _make_adapter(record, raw, profile)


def read_program(path: Path, profile: Profile | None = None) -> Program:
    """Read a legacy container as a program; its base must be known, for the chat turn."""
    record, raw = _read_contents(path)
    found = _make_adapter(record, raw, profile)
    profile = profile or find_profile(found.interpreter)
    if profile is None:
        raise FormatError(
            f"the interpreter {shown(found.interpreter)} is not known, and a legacy "
            "container holds no rendered prompt",
            hint="Read its adapter alone, and give it a template.",
        )
    pseudo = string(record.get("pseudo_program"), "pseudo_program").strip()
    return Program(
        template(pseudo, profile.turn),
        found.adapter,
        found.interpreter,
        string(record.get("spec"), "spec"),
        pseudo,
        {key: record[key] for key in _KEPT if record.get(key)},
    )


def _read_contents(path: Path) -> tuple[dict[str, Any], dict[str, Raw]]:
    """Read the container's JSON record and its tensors."""
    data = map_bytes(path, MAX_FILE_BYTES)
    if len(data) < 12 or data[:4] != MAGIC:
        raise FormatError(f"{path} is cut short: its header takes 12 bytes")
    version, num_bytes = struct.unpack("<II", data[4:12])
    if version != 2:
        raise FormatError(f"the legacy container has version {version}, and only 2 is known")
    if num_bytes > min(MAX_TEXT_BYTES, len(data) - 12):
        raise FormatError(
            f"the legacy container claims {num_bytes} bytes of JSON, and {len(data) - 12} follow "
            f"(limit {MAX_TEXT_BYTES})"
        )
    record = json_object(bytes(data[12 : 12 + num_bytes]), "the container's JSON")
    return record, read_safetensors(data[12 + num_bytes :], "the container's tensor part")


def _make_adapter(
    record: Mapping[str, Any], raw: Mapping[str, Raw], profile: Profile | None
) -> Found:
    """Make the adapter that a record and its tensors are; FormatError for a KV prefix."""
    if prefix := [name for name in raw if _PREFIX.fullmatch(name)]:
        raise FormatError(
            f"the program carries a KV prefix ({len(prefix)} tensors), which no text can stand for",
            hint="Compile its spec again.",
        )
    config = record.get("lora_config")
    if not isinstance(config, dict) or not raw:
        raise FormatError("the legacy container has no lora_config with tensors to it")
    if "alpha" not in config:
        raise FormatError("lora_config has no alpha, and the scale is alpha / rank")
    alpha = number(config["alpha"], "alpha")
    rank = None if config.get("rank") is None else number(config["rank"], "rank")
    base = string(record.get("interpreter_model") or record.get("base_model"), "interpreter_model")
    profile = profile or find_profile(base)
    family = profile.family if profile else family_of(raw, _TENSOR)
    pairs = pair_names(raw, _TENSOR, family.site_of_path)
    check_complete(pairs, missing_sites(pairs))
    if config.get("target_modules") is not None:
        check_complete(pairs, declared_sites(config, family, num_layers(pairs, profile)))
    sites = {}
    for site, pair in pairs.items():
        A, B = (matrix(name, raw[name]) for name in pair)
        if rank is not None and rank != A.shape[0]:
            raise AdapterMismatch(
                f"lora_config gives the rank {rank:g}, and the A of {site} has {A.shape[0]} rows"
            )
        sites[site] = Lora(A, B, alpha)
    return Found(Adapter(sites), base)
