"""Small adapters that exercise what layouts differ in."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest

from paw_mlx.adapter import Adapter, Lora, Matrix, Site
from paw_mlx.profiles import Profile
from paw_mlx.program import Program, Template

Maker = Callable[..., Adapter]
_SIZES = {
    "hidden_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "max_position_embeddings": 128,
}


@pytest.fixture(params=["llama", "qwen3", "gpt2"])
def any_base(request: pytest.FixtureRequest) -> Profile:
    return _base(request.param)


@pytest.fixture
def llama() -> Profile:
    return _base("llama")


@pytest.fixture
def bases() -> dict[str, Profile]:
    return {family: _base(family) for family in ("llama", "qwen3", "gpt2")}


@pytest.fixture
def make() -> Maker:
    """Make a random adapter: make(profile, rank=, sites=, dtype=, alpha=)."""

    def made(
        profile: Profile,
        rank: int | Callable[[Site], int] = 32,
        sites: Iterable[Site] | None = None,
        dtype: type = np.float32,
        alpha: float | Callable[[Site], float] = 8.0,
    ) -> Adapter:
        rng, loras = np.random.default_rng(5), {}
        for site in profile.sites() if sites is None else sites:
            d_in, d_out = profile.shapes[site.module]
            r = rank(site) if callable(rank) else rank
            A, B = (rng.normal(0, 0.1, shape).astype(dtype) for shape in ((r, d_in), (d_out, r)))
            a = alpha(site) if callable(alpha) else alpha
            loras[site] = Lora(Matrix.from_array(A), Matrix.from_array(B), a)
        return Adapter(loras)

    return made


@pytest.fixture
def program(llama: Profile, make: Maker) -> Program:
    return Program(
        Template("Say it louder.\n\n[INPUT]\n", "\n[END_INPUT]"),
        make(llama),
        "tiny",
        spec="Say it louder.",
        pseudo_program="[PSEUDO_PROGRAM]\nTask: Say it louder.\n[END_PSEUDO_PROGRAM]",
        meta={"compiler_snapshot": "by-hand", "created_at": "2026-07-01T00:00:00Z"},
    )


def _base(model_type: str) -> Profile:
    if model_type == "gpt2":
        sizes = {"n_embd": 32, "n_head": 2, "n_layer": 3, "n_positions": 128}
    else:
        sizes = _SIZES
    return Profile.from_config({"model_type": model_type, **sizes}, "tiny")
