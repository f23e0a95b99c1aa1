"""Tiny bases of every family, and saving in any layout: here, and in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from paw_mlx import formats
from paw_mlx.profiles import Profile
from paw_mlx.program import Program

PROGRAMS, ADAPTERS = ("paw", "directory"), ("peft", "gguf", "mlx")
_LLAMA = {
    "hidden_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "max_position_embeddings": 128,
}
_GPT2 = {"n_embd": 32, "n_head": 2, "n_layer": 3, "n_positions": 128}


def base(family: str) -> Profile:
    """Return a tiny base: 3 layers, 2 heads."""
    sizes = _GPT2 if family == "gpt2" else _LLAMA
    return Profile.from_config({"model_type": family, **sizes}, "tiny")


def large_base() -> Profile:
    """Return a base whose adapter, at rank 32, takes some 3 MB."""
    sizes = {"n_embd": 128, "n_head": 2, "n_layer": 12, "n_positions": 64}
    return Profile.from_config({"model_type": "gpt2", **sizes}, "tiny")


def save(program: Program, path: Path, layout: str, profile: Profile, dtype: str | None) -> None:
    """Save a program in any layout, or its adapter where a layout holds no more."""
    if layout in PROGRAMS:
        formats.save(program, path, dtype, layout=layout, profile=profile)
    else:
        formats.save_adapter(program.adapter, path, layout, profile, dtype)


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start code in a process of its own, which may import this module."""
    here = Path(__file__)
    paths = os.pathsep.join([str(here.parent), str(here.parents[2])])
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ
        | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
