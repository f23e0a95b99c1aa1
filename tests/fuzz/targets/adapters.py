"""Adapters alone: their files, and the configs beside them."""

from __future__ import annotations

import shutil
from pathlib import Path

from paw_mlx import formats
from paw_mlx.formats import gguf as gguf_layout
from paw_mlx.formats.fingerprint import fingerprint
from paw_mlx.formats.tensors import matrix, read_safetensors, safetensors_index

from ..gguf_fields import gguf_mutation
from ..json_values import json_mutation
from ..structures import safetensors_mutation
from ..target import Target
from .containers import GOLDEN


def gguf(sandbox: Path) -> Target:
    def read(data: bytes) -> None:
        found = gguf_layout.read(memoryview(data), None)
        found.adapter.check_finite()
        for site in found.adapter.sites:
            found.adapter.delta(site)

    seeds = [(GOLDEN / f"adapter-{kind}.gguf").read_bytes() for kind in ("f16", "q4_0")]
    return Target("gguf", seeds, read, gguf_mutation)


def safetensors(sandbox: Path) -> Target:
    path = sandbox / "x.safetensors"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        safetensors_index(path)
        fingerprint(path.parent)
        for name, raw in read_safetensors(memoryview(data), "x").items():
            matrix(name, raw).dense()

    peft = (GOLDEN / "peft" / "adapter_model.safetensors").read_bytes()
    mlx = (GOLDEN / "mlx" / "adapters.safetensors").read_bytes()
    return Target("safetensors", [peft, mlx], read, safetensors_mutation)


def _config(name: str, layout: str, sandbox: Path) -> Target:
    place = sandbox / layout
    shutil.copytree(GOLDEN / layout, place)

    def read(data: bytes) -> None:
        (place / "adapter_config.json").write_bytes(data)
        formats.summarize(place)

    return Target(name, _configs(layout), read, json_mutation)


def peft_config(sandbox: Path) -> Target:
    return _config("peft-config", "peft", sandbox)


def mlx_config(sandbox: Path) -> Target:
    return _config("mlx-config", "mlx", sandbox)


def _configs(layout: str) -> list[bytes]:
    import json

    own = json.loads((GOLDEN / layout / "adapter_config.json").read_bytes())
    more = {
        "peft": {
            "target_modules": r".*\.(q|v)_proj",
            "exclude_modules": ["lm_head"],
            "layers_to_transform": [0, 1],
            "layers_pattern": ["layers", "h"],
            "rank_pattern": {"q_proj": 4, r"layers\.\d+\.self_attn\.v_proj": 8},
            "alpha_pattern": {"^model.*v_proj": 16},
            "use_rslora": True,
        },
        "mlx": {"lora_layers": 2, "use_dora": False, "quantization": None},
    }
    return [json.dumps(own).encode(), json.dumps(own | more[layout]).encode()]
