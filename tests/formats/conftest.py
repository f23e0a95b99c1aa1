"""Small adapters that exercise what layouts differ in."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest
from layouts import base

from paw_mlx.adapter import Adapter, Lora, Matrix, Site
from paw_mlx.profiles import Profile
from paw_mlx.program import Program, Template

Maker = Callable[..., Adapter]


@pytest.fixture(params=["llama", "qwen3", "gpt2"])
def any_base(request: pytest.FixtureRequest) -> Profile:
    return base(request.param)


@pytest.fixture
def llama() -> Profile:
    return base("llama")


@pytest.fixture
def bases() -> dict[str, Profile]:
    return {family: base(family) for family in ("llama", "qwen3", "gpt2")}


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
