"""A small adapter in torch's files, and what reading one ends in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paw_mlx.adapter import Adapter, Site
from paw_mlx.convert import torch_adapter
from paw_mlx.errors import FormatError, PawError

RANK = 2
SITES = [Site(i, module) for i in (0, 1) for module in ("q_proj", "down_proj")]
PATHS = {"q_proj": "self_attn.q_proj", "down_proj": "mlp.down_proj"}
Arrays = dict[str, np.ndarray]


def arrays() -> dict[tuple[Site, str], np.ndarray]:
    """A and B of every site; all differ."""
    rng, made = np.random.default_rng(3), {}
    for site in SITES:
        made[site, "A"] = rng.normal(size=(RANK, 8)).astype(np.float32)
        made[site, "B"] = rng.normal(size=(6, RANK)).astype(np.float32)
    return made


def named(prefix: str = "base_model.model.model.", suffix: str = "lora_{}.weight") -> Arrays:
    """The state dict of such an adapter."""
    return {
        f"{prefix}layers.{site.layer}.{PATHS[site.module]}.{suffix.format(half)}": array
        for (site, half), array in arrays().items()
    }


def save_config(folder: Path, **change: Any) -> None:
    config = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": 4,
        "target_modules": ["q_proj", "down_proj"],
        "base_model_name_or_path": None,
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps({**config, **change}))


def assert_ours(adapter: Adapter, alpha: float) -> None:
    """Assert that an adapter is the one of `arrays`, bit for bit."""
    assert sorted(adapter.sites) == sorted(SITES)
    assert adapter.alphas == (alpha,)
    for (site, half), array in arrays().items():
        np.testing.assert_array_equal(getattr(adapter.sites[site], half).dense(), array)


def read(path: Path, **options: Any) -> Adapter:
    return torch_adapter.read(path, None, **options).adapter


def refused(path: Path, error: type[PawError] = FormatError, **options: Any) -> PawError:
    """The one sentence with which a path is refused."""
    with pytest.raises(error) as caught:
        read(path, **{"alpha": 4.0, **options})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    return caught.value
