"""Adapters alone: their files, and the configs beside them."""

from __future__ import annotations

import json
import shutil
from itertools import chain
from pathlib import Path

from paw_mlx import formats
from paw_mlx.convert.compare import compare
from paw_mlx.formats import gguf as gguf_layout
from paw_mlx.formats.fingerprint import fingerprint
from paw_mlx.formats.tensors import matrix, read_safetensors, safetensors_index

from ..gguf_fields import gguf_mutation
from ..json_values import json_mutation
from ..structures import members_of, packed, safetensors_mutation, zip_of
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


def receipt(sandbox: Path) -> Target:
    """Two adapters, and what a receipt says of them; nothing reads receipts."""

    def read(data: bytes) -> None:
        held = members_of(data)
        one, other = (
            gguf_layout.read(memoryview(held.get(name, b"")), None).adapter
            for name in ("before.gguf", "after.gguf")
        )
        for mutual in (False, True):
            made = compare(one, other, mutual=mutual)
            json.dumps(made.record(), allow_nan=False)
            texts = [str(made), *made.problems, *chain.from_iterable(made.rows())]
            assert all(text.isprintable() for text in texts), "control characters in a receipt"

    f16, q4_0 = ((GOLDEN / f"adapter-{kind}.gguf").read_bytes() for kind in ("f16", "q4_0"))
    pairs = ((f16, f16), (f16, q4_0), (q4_0, q4_0))
    seeds = [zip_of({"before.gguf": one, "after.gguf": other}) for one, other in pairs]
    return Target("receipt", seeds, read, packed({".gguf": gguf_mutation}))


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
